"""README.md: its code is that of the quickstart, and what it leads to reads well as Markdown."""

import functools
import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.docs.client import check, serve
from tests.pages import DOCS, block, blocks
from tests.servers import ROOT

BLOCKS = blocks("../README", "python")


def readme_code() -> dict[str, str]:
    """What README.md puts into each file of a project, by the file's name."""
    code: dict[str, str] = {}
    for text in BLOCKS:
        parts = re.split(r"^# project/(\w+\.py)[^\n]*\n", text, flags=re.MULTILINE)
        for name, part in zip(parts[1::2], parts[2::2], strict=True):
            code[name] = code.get(name, "") + part
    return code


quickstart = functools.partial(block, "tutorial/quickstart")


def values(code: str, **given: Any) -> dict[str, Any]:
    """The settings that a piece of settings.py leaves behind."""
    exec(code, given)
    return {name: value for name, value in given.items() if name.isupper()}


def test_each_file_is_that_of_the_quickstart():
    code = readme_code()
    assert set(code) == {"settings.py", "asgi.py", "websockets.py", "urls.py"}
    assert code["websockets.py"].startswith(quickstart("class Echo"))
    assert code["asgi.py"].strip() in quickstart("panther_channels.asgi")
    assert blocks("README") == [quickstart("class Echo")]
    assert 'websocket_urls = {"ws/echo": Echo}' in code["urls.py"]
    assert re.search(
        r'websocket_urls = {\s+"ws": {\s+"echo": Echo,\s+},\s+}', quickstart("urlpatterns")
    )


async def test_the_class_that_knows_its_user(transactional_db):
    found: dict[str, Any] = {}
    exec(readme_code()["websockets.py"], found)
    client = serve(found["Account"])
    await check(client, "/", 401)
    django = Client()
    await django.aforce_login(await User.objects.acreate(username="ann"))
    cookie = "; ".join(f"{morsel.key}={morsel.value}" for morsel in django.cookies.values())
    await check(client, "/", "Hello, ann.", headers={"cookie": cookie})


def test_settings():
    expected: dict[str, Any] = {}
    for name in ("INSTALLED_APPS", "CHANNEL_LAYERS", "LOGGING"):
        expected |= values(quickstart(name))
    ours = {"daphne", "panther_channels"}
    generated = [app for app in expected["INSTALLED_APPS"] if app not in ours]
    assert values(readme_code()["settings.py"], INSTALLED_APPS=generated) == expected
    (redis,) = (text for text in BLOCKS if text.startswith("CHANNEL_LAYERS"))
    assert values(redis) == values(block("howto/redis", 'redis://127.0.0.1:6379"]}'))


def anchors(text: str) -> set[str]:
    """What a link to a heading ends with, on code hosts and in Sphinx."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "name", [str(path.relative_to(ROOT)) for path in (*ROOT.glob("*.md"), *DOCS.rglob("*.md"))]
)
def test_a_page_reads_well_without_sphinx(name):
    path = ROOT / name
    text = path.read_text()
    # Directives, roles, targets and definition lists; api.md is made of the code's docstrings.
    only_sphinx = re.findall(
        r"^(?:```|:::)\{.*|\{[\w:-]+\}`[^`\n]+`|^\(\S+\)=$|^: .*", text, re.MULTILINE
    )
    assert set(only_sphinx) <= ({"```{eval-rst}"} if path.name == "api.md" else set())
    for link, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", text):
        target = path.parent / link if link else path
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target.read_text()), anchor
