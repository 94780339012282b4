"""Who can be reached: connections, users, groups and everybody, each by a group of the layer."""

import logging
import re
from hashlib import sha256
from typing import Any, TypeGuard
from uuid import UUID

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ValidationError

from panther_channels._process.log_lines import Repeats, shown
from panther_channels._process.random_digits import random_digits
from panther_channels.layers.backplane import backplane, group_of_connection

_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
# What every layer allows as a group's name, and this package doesn't use itself: a client that may
# choose a room must not choose the messages of another user.
_LAYERS_OWN = re.compile(r"[a-zA-Z0-9._-]{1,99}", re.ASCII)
_OURS = re.compile(r"(connection|session|user)\.[0-9a-f]{32}|panther_channels\..*", re.ASCII)

_no_keys = Repeats(logging.getLogger("panther_channels"), logging.WARNING, interval=600.0)


def new_connection_id(layer: Any) -> str:
    """An id that says where its connection is: its first eight digits name the event loop.

    Args:
        layer: the channel layer; ``None`` where there is none.

    Raises:
        ChannelLayerError: the layer is in trouble.
    """
    return backplane(layer).node() + random_digits()


def connection_group(connection_id: object) -> str | None:
    """The group of whom an outside caller means; ``None`` where that can't be anybody."""
    return group_of_connection(connection_id) if is_connection_id(connection_id) else None


def is_user(instance: Any) -> bool:
    """Whether a model's instance is a user of this project."""
    try:
        return isinstance(instance, apps.get_model(settings.AUTH_USER_MODEL))
    except LookupError:  # there is no django.contrib.auth
        return False


def user_group(user: Any) -> str | None:
    """The group of all connections of a user; ``None`` of nobody."""
    key = getattr(user, "pk", None)
    if key is None:
        return None
    model = getattr(user, "_meta", None)  # not type(user): request.user is a lazy object
    # What derives from the user model is that user; what has no model is simplejwt's TokenUser.
    label = settings.AUTH_USER_MODEL
    if model is not None and not is_user(user):
        label = model.concrete_model._meta.label
    return _hashed("user", f"{label.lower()}:{key}")


def user_group_of(key: Any) -> str:
    """The group of all connections of a user of this project, by the primary key."""
    return _hashed("user", f"{settings.AUTH_USER_MODEL.lower()}:{key}")


def session_digest(key: str | None) -> str:
    """What may be said of a session to others, who are to know it, but not its key."""
    return _hashed("session", key) if key else ""


def _hashed(kind: str, text: str) -> str:
    # A primary key may hold what a group's name may not.
    return f"{kind}.{sha256(text.encode(errors='surrogatepass')).hexdigest()[:32]}"


def required_user_group(user: Any) -> str:
    """The group of all connections of a user.

    A text that can't be a primary key is most often a username, and is told of in the log. It is no
    error: users of a token may be in another table than this project's, or in none.

    Args:
        user: the user, or its primary key.

    Raises:
        ValueError: the user was never saved, or is none.
    """
    if isinstance(user, int | str | UUID) and not isinstance(user, bool):
        if isinstance(user, str) and not _may_be_key(user):
            _no_keys.add(
                "",
                f"{shown(user)} can't be a primary key of {settings.AUTH_USER_MODEL}, by which "
                "connections of a user are found: give the user, or its primary key, and no "
                "username.",
            )
        return user_group_of(user)
    group = user_group(user)
    if group is None:
        raise ValueError(f"{user!r} is no user with a primary key.")
    return group


def _may_be_key(text: str) -> bool:
    """Whether a text can be the primary key of a user of this project."""
    try:
        apps.get_model(settings.AUTH_USER_MODEL)._meta.pk.to_python(text)
    except ValidationError:
        return False
    except LookupError:  # there is no django.contrib.auth
        pass
    return True


def layer_group(group: str) -> str:
    """What a group of the project is called on the channel layer: by any text, one that is legal.

    Raises:
        TypeError: it is no ``str``.
    """
    if not isinstance(group, str):
        raise TypeError(f"The name of a group is a str, not {group!r}.")
    if _LAYERS_OWN.fullmatch(group) and not _OURS.fullmatch(group):
        return group
    return _hashed("panther_channels.group", group)


def is_connection_id(value: object) -> TypeGuard[str]:
    """Whether a value has the form of a ``connection_id``: 32 lower-case hexadecimal digits."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None
