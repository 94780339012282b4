"""The code in README.md is that of the quickstart, which is run by test_quickstart.py."""

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.docs.client import check, serve
from tests.servers import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def readme_code() -> dict[str, str]:
    """What README.md puts into each file of a project, by the file's name."""
    code: dict[str, str] = {}
    for block in BLOCKS:
        parts = re.split(r"^# project/(\w+\.py)[^\n]*\n", block, flags=re.MULTILINE)
        for name, text in zip(parts[1::2], parts[2::2], strict=True):
            code[name] = code.get(name, "") + text
    return code


def snippet(name: str) -> str:
    return (ROOT / "docs" / "snippets" / "quickstart" / name).read_text()


def values(code: str, **given: Any) -> dict[str, Any]:
    """The settings that a piece of settings.py leaves behind."""
    exec(code, given)
    return {name: value for name, value in given.items() if name.isupper()}


def test_each_file_is_that_of_the_quickstart():
    code = readme_code()
    assert set(code) == {"settings.py", "asgi.py", "websockets.py", "urls.py"}
    assert code["websockets.py"].startswith(snippet("websockets.py"))
    assert code["asgi.py"].strip() in snippet("asgi.py").splitlines()
    assert 'websocket_urls = {"ws/echo": Echo}' in code["urls.py"]
    assert re.search(r'websocket_urls = {\s+"ws": {\s+"echo": Echo,\s+},\s+}', snippet("urls.py"))


async def test_the_class_that_knows_its_user(transactional_db):
    found: dict[str, Any] = {}
    exec(readme_code()["websockets.py"], found)
    client = serve(found["Account"])
    await check(client, "/", 403)
    django = Client()
    await django.aforce_login(await User.objects.acreate(username="ann"))
    cookie = "; ".join(f"{morsel.key}={morsel.value}" for morsel in django.cookies.values())
    await check(client, "/", "Hello, ann.", headers={"cookie": cookie})


def test_settings():
    quickstart: dict[str, Any] = {}
    for name in ("settings_apps.py", "settings_layer.py", "settings_logging.py"):
        quickstart |= values(snippet(name))
    ours = {"daphne", "panther_channels"}
    generated = [app for app in quickstart["INSTALLED_APPS"] if app not in ours]
    assert values(readme_code()["settings.py"], INSTALLED_APPS=generated) == quickstart
    (redis,) = (block for block in BLOCKS if block.startswith("CHANNEL_LAYERS"))
    assert values(redis) == values(snippet("settings_redis.py"))


@pytest.mark.parametrize("path", re.findall(r"\]\((docs/[^)]*)\)", README))
def test_links(path):
    assert (ROOT / path).exists()
