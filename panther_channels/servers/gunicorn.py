"""gunicorn's workers with our own protocol.

::

    gunicorn --worker-class panther_channels.servers.gunicorn.PicowsWorker project.asgi:application
"""

from typing import Any, ClassVar

try:
    from uvicorn_worker import UvicornWorker  # type: ignore[import-untyped]
except ImportError as error:
    missing = f"{error.name} is missing: python -m pip install 'panther-channels[fast]' gunicorn"
    raise ImportError(missing) from None

from panther_channels.servers.picows import PicowsProtocol


class PicowsWorker(UvicornWorker):  # type: ignore[misc]
    """The worker of the package ``uvicorn-worker``, with :class:`.PicowsProtocol`."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {**UvicornWorker.CONFIG_KWARGS, "ws": PicowsProtocol}
