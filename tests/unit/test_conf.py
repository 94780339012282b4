from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from panther_channels import conf
from panther_channels.middlewares import WebsocketMiddleware

DOTTED = "panther_channels.middlewares.WebsocketMiddleware"
MIB = 1024 * 1024
NAN = float("nan")


class Other(WebsocketMiddleware):
    pass


#: Each setting: who reads it, its default, values that are taken as they are, and bad ones.
SETTINGS: dict[str, tuple[Callable[[], Any], Any, list[Any], list[Any]]] = {
    "WS_URLS": (conf.urls, None, [{"a": 1}], ["nowhere", "no.such", ""]),
    "WS_AUTHENTICATION": (conf.authentication, None, [Other, [Other]], ["nowhere", ["no.such"]]),
    "WS_MIDDLEWARES": (
        *(conf.middlewares, (), [(), (Other, WebsocketMiddleware)]),
        [DOTTED, 3, [None], ["nowhere"], ["panther_channels.conf.nothing"], ["django.VERSION"]],
    ),
    "WS_CHANNEL_LAYER": (conf.channel_layer, "default", ["sockets"], []),
    "WS_CLOSE_ON_TOKEN_EXPIRY": (conf.close_on_token_expiry, False, [True, False], []),
    "WS_RECHECK_ACCESS": (conf.recheck_access, True, [True, False], []),
    "WS_GC_FREEZE": (conf.gc_freeze, True, [True, False], []),
    "WS_TRUST_DAPHNE_ROOT_PATH": (conf.trust_daphne_root_path, False, [True, False], []),
    "WS_ALLOWED_ORIGINS": (conf.allowed_origins, None, [None, ["*", "https://a.b"]], ["*", 5]),
    **{
        name: (read, default, [5, *further], [0, -1, None, "4", True, NAN])
        for name, read, default, further in (
            ("WS_CONNECT_TIMEOUT", conf.connect_timeout, 4, [0.5]),
            ("WS_DISCONNECT_GRACE", conf.disconnect_grace, 5, [0.5]),
            ("WS_SHUTDOWN_TIMEOUT", conf.shutdown_timeout, 10, [0.5]),
            ("WS_MAX_MESSAGE_SIZE", conf.max_message_size, MIB, []),
            ("WS_MAX_SEND_BUFFER", conf.max_send_buffer, MIB, []),
            ("WS_SEND_TIMEOUT", conf.send_timeout, 30, [0.5]),
        )
    },
    **{
        name: (read, None, [None, 1, 500], [0, -1, True, "5", 1.5])
        for name, read in (
            ("WS_MAX_CONNECTIONS_PER_USER", conf.max_connections_per_user),
            ("WS_MAX_CONNECTIONS_PER_CLIENT", conf.max_connections_per_client),
        )
    },
    "WS_CONNECTION_LIMIT_ACTION": (
        *(conf.connection_limit_action, "refuse", ["close_oldest"], ["close", None, 5, []]),
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_default_and_what_is_set(name: str, settings: Any):
    read, default, values, bad = SETTINGS[name]
    if hasattr(settings, name):
        delattr(settings, name)
    assert read() == default
    for value in values:
        with override_settings(**{name: value}):
            assert read() == value
    for value in bad:
        with (
            override_settings(**{name: value}),
            pytest.raises(ImproperlyConfigured, match=f"^{name}"),
        ):
            read()
    assert read() == default


def test_what_a_path_names_is_not_kept(monkeypatch: pytest.MonkeyPatch, settings: Any):
    settings.WS_AUTHENTICATION, settings.WS_MIDDLEWARES = DOTTED, [DOTTED]
    with monkeypatch.context() as patched:
        patched.setattr(DOTTED, Other)
        assert (conf.authentication(), conf.middlewares()) == (Other, (Other,))
    assert conf.authentication() is WebsocketMiddleware
    assert conf.middlewares() == (WebsocketMiddleware,)


def test_every_setting_is_in_the_table():
    # A reader is a function without arguments that is documented by its setting.
    readers = {
        item
        for item in vars(conf).values()
        if callable(item) and str(item.__doc__).startswith("``WS_")
    }
    assert readers == {read for read, *_ in SETTINGS.values()}


@pytest.mark.parametrize("name", ["WS_URLS", "WS_AUTHENTICATION"])
def test_a_dotted_path_is_imported(name: str):
    read = SETTINGS[name][0]
    with override_settings(**{name: DOTTED}):
        assert read() is WebsocketMiddleware
    with (
        override_settings(**{name: "no.such.module"}),
        pytest.raises(ImproperlyConfigured, match=f"^{name}: can't import 'no.such.module'"),
    ):
        read()


def test_dotted_paths_in_a_list():
    with override_settings(WS_MIDDLEWARES=[DOTTED, Other], WS_AUTHENTICATION=[DOTTED, Other]):
        assert conf.middlewares() == (WebsocketMiddleware, Other)
        assert conf.authentication() == [WebsocketMiddleware, Other]


def test_no_middlewares():
    with override_settings(WS_MIDDLEWARES=None):
        assert conf.middlewares() == ()


def test_origins_are_lower_case():
    with override_settings(WS_ALLOWED_ORIGINS=("HTTPS://Example.com",)):
        assert conf.allowed_origins() == ["https://example.com"]
