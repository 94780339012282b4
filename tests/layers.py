"""The channel layer of this process, for tests that send over that of a server."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from channels.layers import channel_layers


@contextmanager
def default_layer(layer: Any) -> Iterator[None]:
    """Makes a layer the default one; afterwards it is as it was before, even if there was none."""
    before = channel_layers.backends.pop("default", None)
    channel_layers.backends["default"] = layer
    try:
        yield
    finally:
        del channel_layers.backends["default"]
        if before is not None:
            channel_layers.backends["default"] = before
