from collections.abc import Iterator

import pytest

from tests import pages


@pytest.fixture(autouse=True, scope="module")
def _pages_are_forgotten() -> Iterator[None]:
    yield
    pages.forget()
