"""The code in README.md is that of the quickstart, which is run by test_quickstart.py."""

import ast
import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from panther_channels.test import HandshakeRejected, WebsocketClient
from tests.servers import ROOT

SNIPPETS = ROOT / "docs" / "snippets" / "quickstart"
README = (ROOT / "README.md").read_text()


def readme_code() -> dict[str, str]:
    """What README.md puts into each file of a project, by the file's name."""
    code: dict[str, str] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL):
        parts = re.split(r"^# project/(\w+\.py)[^\n]*\n", block, flags=re.MULTILINE)
        for name, text in zip(parts[1::2], parts[2::2], strict=True):
            code[name] = code.get(name, "") + text
    return code


def snippet(name: str) -> str:
    return (SNIPPETS / name).read_text()


def values(code: str, **given: Any) -> dict[str, Any]:
    """The settings that a piece of settings.py leaves behind."""
    exec(code, given)
    return {name: value for name, value in given.items() if name.isupper()}


def test_all_files_are_there():
    assert set(readme_code()) == {"settings.py", "asgi.py", "websockets.py", "urls.py"}


def test_websockets_py():
    assert readme_code()["websockets.py"].startswith(snippet("websockets.py"))


async def test_the_class_that_knows_its_user(transactional_db):
    found: dict[str, Any] = {}
    exec(readme_code()["websockets.py"], found)
    client = WebsocketClient(found["Account"].as_asgi())
    with pytest.raises(HandshakeRejected):
        async with client.connect("/"):
            pass
    user = await User.objects.acreate(username="ann")
    django = Client()
    await django.aforce_login(user)
    cookie = "; ".join(f"{morsel.key}={morsel.value}" for morsel in django.cookies.values())
    async with client.connect("/", headers={"cookie": cookie}) as ws:
        assert await ws.receive() == "Hello, ann."


def test_settings_py():
    quickstart: dict[str, Any] = {}
    for name in ("settings_apps.py", "settings_layer.py", "settings_logging.py"):
        quickstart |= values(snippet(name))
    generated = [
        app for app in quickstart["INSTALLED_APPS"] if app not in {"daphne", "panther_channels"}
    ]
    assert values(readme_code()["settings.py"], INSTALLED_APPS=generated) == quickstart


def test_redis():
    (block,) = (item for item in README.split("```python\n") if item.startswith("CHANNEL_LAYERS"))
    assert values(block.partition("```")[0]) == values(snippet("settings_redis.py"))


def test_asgi_py():
    assert readme_code()["asgi.py"].strip() in snippet("asgi.py").splitlines()


def test_urls_py():
    def urls(code: str) -> dict[str, str]:
        (value,) = (
            node.value
            for node in ast.parse(code).body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "websocket_urls"
        )
        return dict(flat(ast.literal_eval(ast.unparse(value).replace("Echo", "'Echo'"))))

    assert urls(readme_code()["urls.py"]) == urls(snippet("urls.py")) == {"/ws/echo": "Echo"}


def flat(urls: dict[str, Any], prefix: str = "") -> Any:
    for path, value in urls.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}/{path}")
        else:
            yield f"{prefix}/{path}", value


@pytest.mark.parametrize("path", re.findall(r"\]\((docs/[^)]*)\)", README))
def test_links(path):
    assert (ROOT / path).exists()
