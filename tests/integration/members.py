"""Processes that come and go: `python -m tests.integration.members DIRECTORY COUNT`.

Each is a fork that becomes a member of a group and sends to it; every third is killed while it is,
by its parent, and what it leaves behind is up to those who come after it.
"""

import asyncio
import os
import signal
import sys

from django.conf import settings

from panther_channels.layers import LocalChannelLayer


async def live(layer: LocalChannelLayer, is_doomed: bool) -> None:
    channel = await layer.new_channel()
    await layer.group_add("members", channel)
    await layer.group_send("members", {"from": os.getpid()})
    assert (await layer.receive(channel))["from"] == os.getpid()
    if is_doomed:
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    directory, count = sys.argv[1], int(sys.argv[2])
    settings.configure()
    layer = LocalChannelLayer(directory=directory)
    codes = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            asyncio.run(live(layer, is_doomed=number % 3 == 0))
            return
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(f"{codes.count(-signal.SIGKILL)} killed, {codes.count(0)} ended")  # noqa: T201


if __name__ == "__main__":
    main()
