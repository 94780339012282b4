"""A minute of what `python -m tests.faults.soak` does for half an hour."""

import pytest
from django.test import override_settings

from tests.conftest import StartRedis, StartServer
from tests.faults.soak import soak
from tests.servers import SERVER_NAMES

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]


async def test_a_minute_of_visitors(start_redis: StartRedis, start_server: StartServer):
    redis = start_redis()
    environment = {"REDIS_URL": redis.url}
    servers = [start_server(name, env=environment) for name in SERVER_NAMES]
    layer = {
        "BACKEND": "panther_channels.layers.RedisChannelLayer",
        "CONFIG": {"hosts": [redis.url]},
    }
    with override_settings(CHANNEL_LAYERS={"default": layer}):
        report = await soak(servers, redis, seconds=60, every=25, visitors=100)
    assert report.failures == []
    assert report.visits > 100
    assert report.echoes > 100
    assert report.sent > 100
    assert [server.name for server in servers if "Traceback" in server.log] == []
