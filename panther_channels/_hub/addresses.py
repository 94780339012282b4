"""Who can be reached: the ids of connections, and the groups of connections and users."""

import re
from hashlib import sha256
from secrets import token_hex
from typing import Any, TypeGuard

from django.apps import apps
from django.conf import settings

from panther_channels.layers.backplane import backplane

_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)


def new_connection_id(layer: Any) -> str:
    """An id that says where its connection is: its first eight digits name the event loop.

    Args:
        layer: the channel layer; ``None`` where there is none.

    Raises:
        ChannelLayerError: the layer is in trouble.
    """
    return backplane(layer).node() + token_hex(12)


def group_name(connection_id: str) -> str:
    """The group of one connection on the channel layer."""
    return f"connection.{connection_id}"


def connection_group(connection_id: object) -> str | None:
    """The group of whom an outside caller means; ``None`` where that can't be anybody."""
    return group_name(connection_id) if is_connection_id(connection_id) else None


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
    # Hashed, since a primary key may hold what a group's name may not.
    return f"user.{sha256(f'{label.lower()}:{key}'.encode()).hexdigest()[:32]}"


def required_user_group(user: Any) -> str:
    """The group of all connections of a user.

    Raises:
        ValueError: the user was never saved, or is none.
    """
    group = user_group(user)
    if group is None:
        raise ValueError(f"{user!r} is no user with a primary key.")
    return group


def is_connection_id(value: object) -> TypeGuard[str]:
    """Whether a value has the form of a ``connection_id``: 32 lower-case hexadecimal digits."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None
