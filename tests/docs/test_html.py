"""The pages as Sphinx builds them, in the system's Chromium."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.conftest import PATIENCE
from tests.servers import ROOT

pytestmark = pytest.mark.browser

# What is wider than its place, and the headings that break inside a word.
MISFITS = """() => {
    const isWide = (element) => element.scrollWidth > element.clientWidth;
    const wide = [document.documentElement, ...document.querySelectorAll(".table-wrapper")];
    const lines = (element) => {
        const range = document.createRange();
        range.selectNodeContents(element);
        return new Set([...range.getClientRects()].map((rect) => rect.top)).size;
    };
    const texts = [...document.querySelectorAll("article h1, article h2, .sidebar-brand-text")];
    const broken = texts.flatMap((text) => [...text.childNodes].filter(
        (node) => node.nodeType === 3 && /^\\\\w+$/.test(node.data) && lines(node) > 1));
    return [...wide.filter(isWide).map((element) => element.innerText.slice(0, 50)),
            ...broken.map((node) => node.data)];
}"""


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("html")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-n", "docs", str(folder)]
    # At its full speed, of which coverage would take half.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    subprocess.run(command, cwd=ROOT, env=env, check=True)
    return folder


@pytest.mark.parametrize("width", [390, 1280])
def test_everything_fits(html: Path, browser: Browser, width: int):
    page = browser.new_page(viewport={"width": width, "height": 800})
    misfits: dict[str, Any] = {}
    for path in sorted(html.rglob("*.html")):
        page.goto(path.as_uri())
        if found := page.evaluate(MISFITS):
            misfits[path.name] = found
    assert misfits == {}


def test_commands_are_copied_without_their_prompt(html: Path, browser: Browser):
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto((html / "tutorial" / "quickstart.html").as_uri())
    block = page.locator(".highlight-console").first
    block.hover()
    block.get_by_role("button").click()
    page.get_by_role("textbox").first.press("Control+V")
    expect(page.get_by_role("textbox").first).to_have_value(
        "python3 -m venv venv source venv/bin/activate "
        "python -m pip install path/to/the/clone django-admin startproject project ."
    )
