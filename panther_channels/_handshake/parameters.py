"""What hooks take: ``connect()``'s annotations, read once per class, and the casts they ask for."""

import enum
import inspect
import math
import sys
import types
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from typing import Any
from uuid import UUID

from asgiref.sync import iscoroutinefunction
from channels.consumer import AsyncConsumer
from django.core.exceptions import ImproperlyConfigured

from panther_channels.exceptions import InvalidPathVariableAPIError

Cast = Callable[[str], Any]

_MOST_DIGITS = sys.int_info.default_max_str_digits  # 4,300, the most that int() reads
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


# How the hooks are called, for those of whom that is known: with what, and how they are written.
_HOOKS: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "receive": (("",), {}, "(self, data)"),
    "disconnect": ((1000,), {}, "(self, code)"),
    "send": ((), {"data": ""}, "(self, data=None)"),
    "close": ((), {"code": 1000, "reason": ""}, '(self, code=1000, reason="")'),
}


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of one ``connect()``: who takes what."""

    owner: str
    casts: Mapping[str, tuple[Any, Cast]]
    connections: Collection[str]
    names: Collection[str]
    required: Collection[str]
    takes_any: bool

    def check(self, variables: Collection[str]) -> None:
        """Compare with the variables of a URL.

        Raises:
            ImproperlyConfigured: a variable that ``connect()`` doesn't take, or a parameter that
                the URL doesn't give.
        """
        if "self" in variables:
            raise ImproperlyConfigured("has the variable <self>, which is no parameter: rename it")
        if not self.takes_any:
            for name in sorted(set(variables) - set(self.names)):
                raise ImproperlyConfigured(
                    f"has the variable <{name}>, which {self.owner} doesn't take: add a parameter "
                    f"`{name}` or `**kwargs` to it, or rename the variable"
                )
        for name in sorted(set(self.required) - set(variables)):
            raise ImproperlyConfigured(
                f"has no variable <{name}>, which {self.owner} wants: add it to the URL, or give "
                f"the parameter `{name}` a default"
            )

    def bind(self, variables: Mapping[str, Any], connection: AsyncConsumer) -> dict[str, Any]:
        """The keyword arguments for ``connect()``.

        Raises:
            InvalidPathVariableAPIError: a value doesn't fit its annotation.
        """
        arguments = dict(variables)
        for name, (annotation, cast) in self.casts.items():
            value = arguments.get(name)
            if isinstance(value, str):  # a Django converter in the URL may have cast it already
                try:
                    arguments[name] = cast(value)
                except (ValueError, ArithmeticError, LookupError):
                    raise InvalidPathVariableAPIError(value, annotation) from None
        arguments.update(dict.fromkeys(self.connections, connection))
        return arguments


@cache
def parameters(consumer: Any) -> Parameters:
    """Read the signature and the annotations of ``consumer.connect``.

    Raises:
        ImproperlyConfigured: an annotation can't be resolved.
    """
    connect = consumer.connect
    owner = f"{consumer.__qualname__}.connect()"
    signature = list(inspect.signature(connect).parameters.values())[1:]
    named = [p for p in signature if p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY}]
    hints = {p.name: _hint(connect, owner, p) for p in named}
    connections = {name for name, hint in hints.items() if _is_connection(hint)}
    return Parameters(
        owner=owner,
        casts={
            name: (hint, cast)
            for name, hint in hints.items()
            if name not in connections and (cast := _cast(hint)) is not None
        },
        connections=connections,
        names=set(hints) - connections,
        required={p.name for p in named if p.default is p.empty} - connections,
        takes_any=any(p.kind is p.VAR_KEYWORD for p in signature),
    )


def problem_with_hooks(consumer: Any) -> str | None:
    """What is wrong with a method that is called here, for the start and the system checks."""
    for name in ("connect", "accept", *_HOOKS):
        hook = getattr(consumer, name)
        if not iscoroutinefunction(inspect.unwrap(hook)):
            return f"{name}() is not async: write `async def {name}`"
    for name, (arguments, keywords, right) in _HOOKS.items():
        hook = inspect.getattr_static(consumer, name)
        bound = hook.__get__(object(), consumer) if hasattr(hook, "__get__") else hook
        # What is called, and not what a decorator has wrapped; Channels' receive() takes two.
        signature = inspect.signature(bound, follow_wrapped=False)
        try:
            signature.bind(*arguments, **keywords)
        except TypeError:
            is_taken = False
        else:
            is_taken = not (name == "receive" and "bytes_data" in signature.parameters)
        if not is_taken:
            return f"{name}() takes {signature}: write `async def {name}{right}`, as it is called"
    return None


def _hint(connect: Callable[..., Any], owner: str, parameter: inspect.Parameter) -> Any:
    if parameter.annotation is parameter.empty:
        return str
    alone = types.SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    namespace = getattr(inspect.unwrap(connect), "__globals__", {})
    try:
        hint = typing.get_type_hints(alone, globalns=namespace)[parameter.name]
    except Exception as error:  # an annotation is any expression at all
        raise ImproperlyConfigured(
            f"{owner}: the annotation {parameter.annotation!r} of the parameter "
            f"`{parameter.name}` can't be resolved ({error}). Import what it names at run time, "
            "not under TYPE_CHECKING"
        ) from error
    if typing.get_origin(hint) in {typing.Union, types.UnionType}:
        # A variable in a path is never absent, so that `int | None` is `int`.
        members = [item for item in typing.get_args(hint) if item is not types.NoneType]
        return members[0] if len(members) == 1 else hint
    return hint


def _is_connection(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, AsyncConsumer)


def _cast(hint: Any) -> Cast | None:
    if typing.get_origin(hint) is typing.Literal:
        return {str(value): value for value in typing.get_args(hint)}.__getitem__
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {str(member.value): member for member in hint}.__getitem__
    if hint is bool:
        return lambda value: _BOOLEANS[value.lower()]
    if hint is datetime or hint is date:
        return hint.fromisoformat
    if hint is float:
        return _float
    if hint is Decimal:
        return _decimal
    return hint if hint is int or hint is UUID else None


def _float(value: str) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _decimal(value: str) -> Decimal:
    number = Decimal(value)
    _, digits, exponent = number.as_tuple()
    # Not NaN, nor Infinity; and round() and int() write out 1e4000000, which takes seconds.
    if isinstance(exponent, int):
        before, after = len(digits) + exponent, -exponent
        if max(before, 1) + max(after, 0) <= _MOST_DIGITS:
            return number
    raise ValueError(value)
