import subprocess
import sys

import pytest
from django.apps import apps
from django.core import checks

import panther_channels.layers
from panther_channels import checks as ours
from panther_channels.apps import PantherChannelsConfig

CODE = """
import sys
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=[{apps}])
django.setup()
daphne = sys.modules.get("daphne.ws_protocol")
print(daphne and daphne.WebSocketFactory.protocol.__module__)
"""
MENDED = "panther_channels.servers.daphne.protocol"


@pytest.mark.parametrize(
    ("installed", "module"),
    [
        ("'daphne', 'panther_channels'", MENDED),
        ("'panther_channels', 'daphne'", MENDED),
        ("'panther_channels'", "None"),
    ],
)
def test_daphne_is_mended_where_it_is_the_server(installed: str, module: str):
    command = [sys.executable, "-c", CODE.format(apps=installed)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == f"{module}\n"


def test_the_checks_are_registered_once():
    app = apps.get_app_config("panther_channels")
    assert isinstance(app, PantherChannelsConfig)
    registered = checks.registry.registry.registered_checks
    found = {getattr(ours, name) for name in dir(ours) if name.startswith("check_")}
    assert found == set(ours.CHECKS)
    assert found <= set(registered)
    before = len(registered)
    app.ready()
    assert len(registered) == before


IMPORTS = """
import sys
import django
from django.conf import settings
layers = {{"default": {{"BACKEND": "{backend}"}}}}
settings.configure(INSTALLED_APPS=["panther_channels"], CHANNEL_LAYERS=layers)
django.setup()
import panther_channels.layers, panther_channels.websocket
print({{"redis", "channels_redis", "daphne", "uvicorn"}} & set(sys.modules))
import channels_redis.pubsub
before = vars(channels_redis.pubsub).copy()
from channels.layers import get_channel_layer
get_channel_layer()
print(vars(channels_redis.pubsub) == before)
"""


@pytest.mark.parametrize(
    "backend",
    ["panther_channels.layers.RedisChannelLayer", "channels_redis.pubsub.RedisPubSubChannelLayer"],
)
def test_redis_is_imported_by_its_layer_alone_and_never_changed(backend: str):
    command = [sys.executable, "-c", IMPORTS.format(backend=backend)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "set()\nTrue\n"


def test_layers_has_what_it_says_and_no_more():
    assert panther_channels.layers.RedisChannelLayer.__name__ == "RedisChannelLayer"
    with pytest.raises(AttributeError, match="NoSuchLayer"):
        panther_channels.layers.NoSuchLayer  # noqa: B018
