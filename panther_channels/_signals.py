"""Whose access may have changed, as Django's signals tell it, and telling their connections.

Signals are heard in the process that changes something; the connections are told over the channel
layer, wherever they are, and ask again themselves.
"""

import logging
from collections.abc import Callable, Iterable
from functools import partial, wraps
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.signals import user_logged_out
from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import DEFAULT_DB_ALIAS, transaction
from django.db.models import Q
from django.db.models.signals import class_prepared, m2m_changed, post_delete, post_save, pre_delete
from django.utils import timezone

from panther_channels import conf
from panther_channels._hub.addresses import is_user, session_digest, user_group, user_group_of
from panther_channels._hub.delivery import find_channel_layer, recheck_event
from panther_channels._process.log_lines import Repeats
from panther_channels.sync import deliver_soon

logger = logging.getLogger("panther_channels")

_UID = "panther_channels"
_RIGHTS = ("auth.Group", "auth.Permission")

_untold = Repeats(logger, logging.ERROR, interval=10.0)


def connect() -> None:
    """Listen to Django, once all models are there."""
    user_logged_out.connect(_logged_out, dispatch_uid=_UID)
    # Model by model: where somebody listens to all, Django reads every row before it deletes it.
    for model in apps.get_models():
        _watch(model)
        if _is_user_model(model) or _right(model):
            for field in model._meta.many_to_many:
                if _right(field.related_model):
                    through = field.remote_field.through
                    m2m_changed.connect(_rights_changed, sender=through, dispatch_uid=_UID)
    class_prepared.connect(_watch, dispatch_uid=_UID)  # such as a proxy that is made later


def _watch(sender: Any, **_kwargs: Any) -> None:
    if issubclass(sender, AbstractBaseSession):
        post_delete.connect(_session_deleted, sender=sender, dispatch_uid=_UID)
    elif _right(sender):
        pre_delete.connect(_right_deleted, sender=sender, dispatch_uid=_UID)
    elif _is_user_model(sender):
        post_save.connect(_saved, sender=sender, dispatch_uid=_UID)
        post_delete.connect(_deleted, sender=sender, dispatch_uid=_UID)


def _right(model: Any) -> str:
    """Which of the two a model is, if it is one, or is derived from one."""
    if not apps.is_installed("django.contrib.auth"):
        return ""
    return next((each for each in _RIGHTS if issubclass(model, apps.get_model(each))), "")


def _is_user_model(model: Any) -> bool:
    try:
        return issubclass(model, apps.get_model(settings.AUTH_USER_MODEL))
    except LookupError:  # there is no django.contrib.auth
        return False


# What the signals say


def _harmless(receiver: Callable[..., None]) -> Callable[..., None]:
    @wraps(receiver)
    def receive(**kwargs: Any) -> None:
        try:
            if conf.recheck_access():
                receiver(**kwargs)
        except Exception:  # what was saved, is saved
            logger.exception("Whose access has changed can't be told")

    return receive


@_harmless
def _saved(
    *, instance: Any, created: bool, using: str, update_fields: Any = None, **_: Any
) -> None:
    # Whoever is new has no connections; and every login saves `last_login`.
    if not created and set(update_fields or ()) != {"last_login"}:
        _tell([user_group(instance)], using)


@_harmless
def _deleted(*, instance: Any, using: str, **_: Any) -> None:
    _tell([user_group(instance)], using)  # now: after the commit, it has no primary key


@_harmless
def _logged_out(*, user: Any, request: Any = None, **_: Any) -> None:
    # Django ends the session after this signal, so it may still be there when somebody looks.
    session = getattr(getattr(request, "session", None), "session_key", None)
    _tell([user_group(user)], DEFAULT_DB_ALIAS, session_digest(session))


@_harmless
def _session_deleted(*, instance: Any, using: str, **_: Any) -> None:
    if instance.expire_date > timezone.now():  # else `clearsessions` tidies up
        user = instance.get_decoded().get(SESSION_KEY)
        # A session that has a copy in the cache is deleted there after this signal.
        if user is not None:
            _tell([user_group_of(user)], using, session_digest(instance.session_key))


@_harmless
def _rights_changed(
    *, instance: Any, action: str, model: Any, pk_set: Any, using: str, **_: Any
) -> None:
    """Of a user's groups or permissions, or of a group's permissions, from either side."""
    if action not in ("post_add", "post_remove", "post_clear", "pre_clear"):
        return
    users: Iterable[Any]
    if is_user(instance):
        users = [instance.pk]
    elif pk_set is not None and _is_user_model(model):
        users = pk_set
    elif pk_set is not None and _right(model) == "auth.Group":
        users = _who_has("auth.Group", pk_set, using)
    else:  # a group, or what is taken from all who have it: those who are there before
        users = _who_has(_right(type(instance)), [instance.pk], using)
    _tell(map(user_group_of, users), using)


@_harmless
def _right_deleted(*, instance: Any, using: str, **_: Any) -> None:
    users = _who_has(_right(type(instance)), [instance.pk], using)
    _tell(map(user_group_of, users), using)


def _who_has(label: str, keys: Iterable[Any], using: str) -> Iterable[Any]:
    """The primary keys of all users who have a group or a permission."""
    user_model: Any = apps.get_model(settings.AUTH_USER_MODEL)
    wanted = Q(pk__in=())
    for field in user_model._meta.many_to_many:
        has = _right(field.related_model)
        if has == label:
            wanted |= Q(**{f"{field.name}__in": keys})
        elif (has, label) == ("auth.Group", "auth.Permission"):
            wanted |= Q(**{f"{field.name}__permissions__in": keys})
    users = user_model._base_manager.using(using).filter(wanted)
    return list(users.values_list("pk", flat=True).distinct())


# Who is told


def _tell(groups: Iterable[str | None], using: str, session: str = "") -> None:
    known = [group for group in groups if group is not None]
    if known:
        transaction.on_commit(partial(_tell_now, known, recheck_event(session)), using=using)


def _tell_now(groups: list[str], event: dict[str, Any]) -> None:
    try:
        if find_channel_layer() is not None:
            deliver_soon(groups, event, _log_failure)
    except Exception as error:  # noqa: BLE001 - the request that has saved the user goes on
        _log_failure(error)


def _log_failure(error: BaseException) -> None:
    what = str(error) or type(error).__name__
    text = "The connections of users whose access may have changed can't be asked again"
    _untold.add(type(error).__name__, f"{text}: {what}")
