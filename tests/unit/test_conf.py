from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from panther_channels import conf
from panther_channels.middlewares import WebsocketMiddleware

DOTTED = "panther_channels.middlewares.WebsocketMiddleware"
READERS = {"WS_URLS": conf.urls, "WS_AUTHENTICATION": conf.authentication}


@pytest.mark.parametrize("name", READERS)
def test_defaults_to_none(name: str, settings: Any):
    if hasattr(settings, name):
        delattr(settings, name)
    assert READERS[name]() is None


@pytest.mark.parametrize("name", READERS)
def test_a_dotted_path_is_imported_and_all_else_is_taken_as_it_is(name: str):
    with override_settings(**{name: DOTTED}):
        assert READERS[name]() is WebsocketMiddleware
    value = {"a": 1}
    with override_settings(**{name: value}):
        assert READERS[name]() is value


@pytest.mark.parametrize("path", ["nowhere", "no.such.module", "panther_channels.conf.nothing", ""])
@pytest.mark.parametrize("name", [*READERS, "WS_MIDDLEWARES"])
def test_a_bad_path_names_the_setting(name: str, path: str):
    read = {**READERS, "WS_MIDDLEWARES": conf.middlewares}[name]
    value = [path] if name == "WS_MIDDLEWARES" else path
    with (
        override_settings(**{name: value}),
        pytest.raises(ImproperlyConfigured, match=f"^{name}: can't import {path!r}"),
    ):
        read()


@pytest.mark.parametrize("value", [None, [], ()])
def test_no_middlewares(value: object):
    with override_settings(WS_MIDDLEWARES=value):
        assert conf.middlewares() == ()


def test_middlewares_are_imported_in_order():
    class Other(WebsocketMiddleware):
        pass

    with override_settings(WS_MIDDLEWARES=[DOTTED, Other]):
        assert conf.middlewares() == (WebsocketMiddleware, Other)


@pytest.mark.parametrize("value", [DOTTED, 3, [None], ["django.conf.ENVIRONMENT_VARIABLE"]])
def test_bad_middlewares_name_the_setting(value: object):
    with override_settings(WS_MIDDLEWARES=value), pytest.raises(ImproperlyConfigured) as caught:
        conf.middlewares()
    assert str(caught.value).startswith("WS_MIDDLEWARES")


SECONDS = {
    "WS_CONNECT_TIMEOUT": (conf.connect_timeout, 4),
    "WS_DISCONNECT_GRACE": (conf.disconnect_grace, 5),
    "WS_SHUTDOWN_TIMEOUT": (conf.shutdown_timeout, 10),
}


@pytest.mark.parametrize("name", SECONDS)
def test_seconds(name: str):
    read, default = SECONDS[name]
    assert read() == default
    with override_settings(**{name: 0.5}):
        assert read() == 0.5
    for value in (0, -1, "4", None, True, float("nan")):
        with (
            override_settings(**{name: value}),
            pytest.raises(ImproperlyConfigured, match=f"^{name} must be a number above 0"),
        ):
            read()


def test_channel_layer():
    assert conf.channel_layer() == "default"
    with override_settings(WS_CHANNEL_LAYER="sockets"):
        assert conf.channel_layer() == "sockets"
    assert conf.channel_layer() == "default"


NUMBERS: dict[str, tuple[Callable[[], float], float]] = {
    "WS_MAX_MESSAGE_SIZE": (conf.max_message_size, 1024 * 1024),
    "WS_MAX_SEND_BUFFER": (conf.max_send_buffer, 1024 * 1024),
    "WS_SEND_TIMEOUT": (conf.send_timeout, 30.0),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers(name: str):
    read, default = NUMBERS[name]
    assert read() == default
    with override_settings(**{name: 5}):
        assert read() == 5
    assert read() == default


@pytest.mark.parametrize("value", [0, -1, None, "1", True, float("nan")])
@pytest.mark.parametrize("name", NUMBERS)
def test_bad_numbers_name_the_setting(name: str, value: object):
    with (
        override_settings(**{name: value}),
        pytest.raises(ImproperlyConfigured, match=f"^{name} must be a number above 0"),
    ):
        NUMBERS[name][0]()


LIMITS = {
    "WS_MAX_CONNECTIONS_PER_USER": conf.max_connections_per_user,
    "WS_MAX_CONNECTIONS_PER_CLIENT": conf.max_connections_per_client,
}


@pytest.mark.parametrize("name", LIMITS)
def test_limits_of_connections(name: str):
    assert LIMITS[name]() is None
    for value in (None, 1, 500):
        with override_settings(**{name: value}):
            assert LIMITS[name]() == value


@pytest.mark.parametrize("value", [0, -1, True, "5", 1.5])
@pytest.mark.parametrize("name", LIMITS)
def test_a_bad_limit_names_the_setting(name: str, value: object):
    with override_settings(**{name: value}), pytest.raises(ImproperlyConfigured, match=f"^{name}"):
        LIMITS[name]()


def test_what_happens_to_one_connection_too_many():
    assert conf.connection_limit_action() == "refuse"
    with override_settings(WS_CONNECTION_LIMIT_ACTION="close_oldest"):
        assert conf.connection_limit_action() == "close_oldest"


@pytest.mark.parametrize("value", ["close", None, 5, []])
def test_a_bad_action_names_the_setting(value: object):
    with (
        override_settings(WS_CONNECTION_LIMIT_ACTION=value),
        pytest.raises(ImproperlyConfigured, match=r"^WS_CONNECTION_LIMIT_ACTION"),
    ):
        conf.connection_limit_action()
