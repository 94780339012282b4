import subprocess
import sys
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.core import checks
from django.db.models.signals import post_save

from panther_channels import _layer_checks as of_the_layer
from panther_channels import checks as ours
from panther_channels.apps import PantherChannelsConfig

CODE = """
import sys
import django
from django.conf import settings
backend = "{backend}"
settings.configure(
    INSTALLED_APPS={apps}, CHANNEL_LAYERS={{"default": {{"BACKEND": backend}}}}
)
django.setup()
daphne, pubsub = map(sys.modules.get, ("daphne.ws_protocol", "channels_redis.pubsub"))
print(daphne and daphne.WebSocketFactory.protocol.__module__)
print(pubsub and pubsub.RedisSingleShardConnection.__module__)
"""
US = "panther_channels"
DAPHNE = "panther_channels.servers.daphne"
PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"
CORE = "channels_redis.core.RedisChannelLayer"


@pytest.mark.parametrize(
    ("installed", "backend", "mended"),
    [
        ([US], "", ["None", "None"]),
        (["daphne", US], "", [DAPHNE, "None"]),
        ([US, "daphne"], "", [DAPHNE, "None"]),
        ([US], CORE, ["None", "None"]),
        ([US], PUBSUB, ["None", "panther_channels._pubsub"]),
    ],
)
def test_what_is_mended_where_it_is_there(installed: list[str], backend: str, mended: list[str]):
    command = [sys.executable, "-c", CODE.format(apps=installed, backend=backend)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.split() == mended


def test_the_checks_are_registered_once():
    app = apps.get_app_config(US)
    assert isinstance(app, PantherChannelsConfig)
    registered = checks.registry.registry.registered_checks
    found = {
        getattr(module, name)
        for module in (ours, of_the_layer)
        for name in dir(module)
        if name.startswith("check_")
    }
    assert found == set(ours.CHECKS)
    assert found <= set(registered)
    before = len(registered)
    app.ready()
    assert len(registered) == before


class Raising:
    """Has a property that fails, as one that asks another service."""

    @property
    def is_active(self) -> bool:
        raise ZeroDivisionError

    @is_active.setter
    def is_active(self, value: bool) -> None:
        """Called by Django when it makes a user."""


class RaisingUser(Raising, User):
    class Meta:
        app_label = "auth"
        proxy = True


@pytest.mark.parametrize(("instance", "lines"), [(Raising(), 0), (RaisingUser(pk=1), 1)])
def test_no_model_is_kept_from_being_saved(
    instance: Any, lines: int, caplog: pytest.LogCaptureFixture
):
    options = {"sender": type(instance), "instance": instance, "using": "default"}
    post_save.send(created=True, **options)
    assert caplog.messages == []
    post_save.send(created=False, **options)
    assert len(caplog.messages) == lines
