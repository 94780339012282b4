"""The echo of Panther without its log, as the other applications run."""

import logging

from tests.benchmarks.applications.panther_echo import application

__all__ = ["application"]

logging.getLogger("panther").setLevel(logging.WARNING)
