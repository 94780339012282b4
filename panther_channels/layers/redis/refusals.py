"""What Redis says that no other attempt mends: it is told as what it is, and what to change."""

from collections.abc import Mapping
from typing import Any

from redis.exceptions import (
    AuthenticationError,
    ClusterError,
    InvalidResponse,
    NoPermissionError,
    RedisError,
    ResponseError,
)

_COMMANDS = "+@pubsub +hello +select +ping +client|setname +client|list"


def is_lasting(error: BaseException) -> bool:
    """Whether somebody has to change something; all else is an outage, which passes."""
    if isinstance(error, ClusterError):  # a replica whose master is down
        return False
    return isinstance(error, AuthenticationError | InvalidResponse | ResponseError)


def explained(error: RedisError, prefix: str, options: Mapping[str, Any]) -> RedisError:
    """A lasting error, in words that name what to change.

    Args:
        error: what redis-py has raised.
        prefix: begins all names in Redis.
        options: of a connection to it.
    """
    said = str(error).rstrip(".")
    place = options.get("path") or f"{options.get('host')}:{options.get('port')}"
    user = options.get("username") or "default"
    if isinstance(error, InvalidResponse):
        text = f"What answers at {place} is no Redis: {said}. CHANNEL_LAYERS has the address"
    elif isinstance(error, AuthenticationError):
        text = f"Redis at {place} doesn't let the channel layer in, as the user {user!r}: {said}"
    else:
        text = f"Redis at {place} refuses the channel layer something: {said}"
    if isinstance(error, NoPermissionError):
        # Not both: where all channels are allowed already, Redis takes no pattern.
        needs = f"&{prefix}__*" if "channel" in said else _COMMANDS
        text += f". What it needs: ACL SETUSER {user} {needs}"
    return type(error)(text)
