"""A run of the tests with plain Channels behind them."""

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import psutil
import pytest

from tests.conftest import GetRedis, StartServer
from tests.faults.plain import outside
from tests.integration import reach
from tests.servers import Server, ServerName

APPLICATION = "tests.faults.plain.asgi:application"
OURS = "panther_channels.websocket"
CORE_SETTINGS = "tests.integration.core_settings"

NO_LIMITS = "plain Channels has no such limit"
NO_LOCAL_LAYER = "plain Channels has no local layer"
# By the beginning of what follows tests/faults/.
LEFT_OUT = {
    "test_limits.py": NO_LIMITS,
    "test_flow.py::test_a_limit_of_ones_own": NO_LIMITS,
    "test_stop.py::test_every_kind_of_connection_ends": NO_LOCAL_LAYER,
    "test_stop.py::test_workers[gunicorn]": "it starts a server of its own",
    "test_odd_input.py::test_events[daphne-local]": NO_LOCAL_LAYER,
    "test_odd_input.py::test_events[uvicorn-local]": NO_LOCAL_LAYER,
    "test_odd_input.py::test_strangers": NO_LOCAL_LAYER,
    "test_odd_input.py::test_fuzzed_frames": NO_LOCAL_LAYER,
    "test_odd_input.py::test_fuzzed_handshakes": "the first traceback ends it",
    "test_soak.py": "the other tests show the parts of it",
}


class Watched:
    """A server, from the moment at which a test takes it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.mark = server.mark()
        self.before = server.memory()
        self.growth = 0

    def look(self) -> None:
        with contextlib.suppress(psutil.Error):
            self.growth = max(self.growth, self.server.memory() - self.before)

    def __str__(self) -> str:
        tracebacks = self.server.log.count("Traceback", self.mark)
        return f"{self.server.name} +{self.growth // 10**6} MB, {tracebacks} tracebacks"


class PlainRun:
    """A plugin of pytest; prints at the end what became of each test."""

    def __init__(self, config: pytest.Config) -> None:
        config.option.tbstyle = "no"
        config.option.reportchars = ""
        self._outcomes: dict[str, str] = {}
        self._watched: dict[Server, Watched] = {}

    @contextlib.contextmanager
    def instead_of(self, start: StartServer, get_redis: GetRedis) -> Iterator[StartServer]:
        """Starts the twins, and kills them at the end, since they may not end by themselves."""
        started = []

        def instead(
            name: ServerName,
            _application: str = "",
            *,
            env: Mapping[str, str] | None = None,
            **options: Any,
        ) -> Server:
            server = start(name, APPLICATION, env=_environment(env or {}, get_redis), **options)
            started.append(server)
            self._watched.setdefault(server, Watched(server))
            return server

        yield instead
        for server in started:
            server.kill()

    @contextlib.contextmanager
    def of(self, test: pytest.Function) -> Iterator[None]:
        """Lets a test send by the layer alone, and looks at its servers."""
        self._watched.clear()
        over = threading.Event()
        looking = threading.Thread(target=self._look, args=(over,))
        looking.start()
        began = time.monotonic()
        with pytest.MonkeyPatch.context() as patch:
            for module, name in [
                (each, name) for each in (test.module, reach) for name in vars(each)
            ]:
                value = getattr(module, name)
                if name in outside.__all__:
                    patch.setattr(module, name, getattr(outside, name))
                elif isinstance(value, str) and OURS in value:  # a program, for another process
                    patch.setattr(module, name, value.replace(OURS, outside.__name__))
            yield
        over.set()
        looking.join()
        seen = [f"{time.monotonic() - began:.0f} s", *map(str, self._watched.values())]
        test.user_properties.append(("seen", "; ".join(seen)))

    def _look(self, over: threading.Event) -> None:
        while not over.wait(0.05):
            for watched in list(self._watched.values()):
                watched.look()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            for start, reason in LEFT_OUT.items():
                if item.nodeid.startswith(f"tests/faults/{start}"):
                    item.add_marker(pytest.mark.skip(reason=reason))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        known = self._outcomes.get(report.nodeid, "as ours")
        if known == "as ours" and not report.passed:
            known = _reason(report)
        if report.when == "teardown":
            known += "".join(f" ({seen})" for _, seen in report.user_properties)
        self._outcomes[report.nodeid] = known

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("against plain Channels")
        for nodeid, outcome in self._outcomes.items():
            terminalreporter.write_line(f"{nodeid}: {outcome}")


def _environment(env: Mapping[str, str], get_redis: GetRedis) -> dict[str, str]:
    """That of a twin; channels_redis.core takes the place of the local layer."""
    plain = {**env, "DJANGO_SETTINGS_MODULE": "tests.faults.plain.settings"}
    if env.get("DJANGO_SETTINGS_MODULE") == CORE_SETTINGS:
        plain["CORE_URL"] = plain.pop("REDIS_URL")
    elif "LOCAL_LAYER" in env:
        plain["CORE_URL"] = get_redis().url
    return plain


def _reason(report: pytest.TestReport) -> str:
    """What failed, in a line; or why nothing was tried."""
    if report.skipped:
        return f"left out: {str(report.longrepr[2]).removeprefix('Skipped: ')}"  # type: ignore[index]
    crash = getattr(report.longrepr, "reprcrash", None)
    lines = str(crash.message if crash else report.longrepr).splitlines() or [""]
    telling = (line for line in lines if line.startswith(("never did", "assert ")))
    return next(telling, lines[0])[:200]
