"""The same classes, the same client: what it sees of Panther is what it sees of us.

Except for the deviations, which are all named, and each of which has to be one.
"""

import re

import pytest

from tests.contracts.conftest import Play, StartContract, play_on
from tests.contracts.scenarios import SCENARIOS
from tests.servers import ServerName

# The line of the exception is the first one that is not indented.
_TRACEBACK = re.compile(r"^Traceback \(most recent.*\n(?:[ \t].*\n|\n)*(?P<error>\S.*)$", re.M)


@pytest.mark.parametrize("name", SCENARIOS)
async def test_parity(name: str, ours: Play, panther: Play) -> None:
    scenario = SCENARIOS[name]
    if scenario.is_ours_alone:
        assert await ours(scenario) == scenario.ours
        return
    theirs = await panther(scenario)
    seen = await ours(scenario)
    assert seen == scenario.expected(theirs), scenario.because
    if scenario.because:
        assert seen != theirs, f"Panther does the same now; no longer true: {scenario.because}"


async def test_only_meant_failures_have_a_traceback(
    server_name: ServerName, contract_server: StartContract
) -> None:
    """In the log of all scenarios that were played before; one that fails shows that we see it."""
    server = contract_server(server_name)
    mark = server.mark()
    await play_on(server, SCENARIOS["an_exception_in_receive"])
    server.wait_log(r": meant: receive$", since=mark)
    assert server.log.count("Traceback (most recent call last)", mark) == 1  # none of the server's

    errors = [match["error"] for match in _TRACEBACK.finditer(server.log)]
    assert len(errors) == server.log.count("Traceback (most recent call last)")
    assert [error for error in errors if ": meant: " not in error] == []
    assert "Warning" not in server.log
