from typing import Any

import pytest
from django.core import checks
from django.test import override_settings

from tests.unit.postponed_annotations import Unresolvable


def found(**settings: Any) -> list[checks.CheckMessage]:
    """What `manage.py check` says of us."""
    with override_settings(**settings):
        messages = checks.run_checks()
    return [message for message in messages if str(message.id).startswith("panther_channels.")]


def test_all_is_well():
    assert found() == []
    assert found(WS_URLS=None, WS_MIDDLEWARES=None, WS_AUTHENTICATION=None) == []


@pytest.mark.parametrize(
    ("settings", "number", "text"),
    [
        ({"WS_URLS": "no.such.urls"}, 1, "no.such.urls"),
        ({"WS_URLS": []}, 1, "must be a dict"),
        ({"WS_URLS": {"a/b": None}}, 1, "'a/b'"),
        ({"WS_URLS": {"a/<number>": Unresolvable}}, 1, "'a/<number>'"),
        ({"WS_MIDDLEWARES": "project.Middleware"}, 2, "must be a list"),
        ({"WS_MIDDLEWARES": ["no.such.Middleware"]}, 2, "no.such.Middleware"),
        ({"WS_AUTHENTICATION": "no.such.Authentication"}, 3, "no.such.Authentication"),
        ({"WS_AUTHENTICATION": 5}, 3, "5"),
        ({"WS_CHANNEL_LAYER": "sockets"}, 4, "'sockets'"),
    ],
)
def test_errors(settings: dict[str, Any], number: int, text: str):
    (message,) = found(**settings)
    assert message.id == f"panther_channels.E{number:03}"
    assert message.level == checks.ERROR
    assert text in message.msg
    assert next(iter(settings)) in f"{message.msg} {message.hint}"
    assert message.hint


def test_each_setting_has_its_own():
    messages = found(WS_URLS=[], WS_MIDDLEWARES=5, WS_AUTHENTICATION=5, WS_CHANNEL_LAYER="sockets")
    numbers = [str(message.id)[-4:] for message in messages]
    assert sorted(numbers) == ["E001", "E002", "E003", "E004"]


def test_a_layer_that_is_there_or_not_needed():
    layer = {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    assert found(WS_CHANNEL_LAYER="sockets", CHANNEL_LAYERS={"sockets": layer}) == []
    assert found(CHANNEL_LAYERS={}) == []
