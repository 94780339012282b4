"""Code in a process of its own, which sends to the ids that are its arguments."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence

from tests.servers import ROOT

SETUP = """
import asyncio, os, sys, threading
import django
django.setup()
from panther_channels.sync import close_websocket_connection, send_message_to_websocket
ids = sys.argv[1:]
"""
# Of what a script leaves behind, Python warns in its development mode, which makes asyncio slow.
DEVELOPMENT = ("-X", "dev", "-W", "error")
# And asyncio says there what took longer than 0.1 s, as everything may on a busy machine.
SLOW = re.compile(r"WARNING asyncio Executing .* took [\d.]+ seconds\n")


async def run(
    env: Mapping[str, str], code: str, *arguments: str, options: Sequence[str] = DEVELOPMENT
) -> str:
    """Runs a script that may leave nothing behind: not a warning, not a thread, not a socket."""
    completed = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, *options, "-c", SETUP + code, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        timeout=50,
        check=False,
    )
    said = SLOW.sub("", completed.stderr.decode())
    assert (said, completed.returncode) == ("", 0)
    return completed.stdout.decode()
