"""The tables as plain text."""

import platform
import statistics
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version

from panther_channels import __version__
from tests.benchmarks.idle import CONNECTIONS as IDLE_CONNECTIONS
from tests.benchmarks.load import CONNECTIONS, HANDSHAKES_AT_ONCE, IN_FLIGHT, MESSAGE, Window
from tests.benchmarks.processes import Cores
from tests.benchmarks.targets import Target

Results = dict[Target, list[Window]]

HEADINGS = {
    "echo": (
        f"Echo: {CONNECTIONS} connections, {IN_FLIGHT} text messages of {len(MESSAGE)} bytes in "
        "flight on each",
        "messages/s",
    ),
    "connects": (
        f"Connects: opening and closing handshake, {HANDSHAKES_AT_ONCE} clients at a time",
        "connects/s",
    ),
}
# The least share of the raw application that is good enough, without and with a channel layer, for
# ours alone.
TARGETS = {("echo", False): 0.9, ("connects", False): 0.9, ("connects", True): 0.7}
# Bytes of memory of an idle connection over Redis pub/sub.
IDLE = 32_000

_PACKAGES = (
    *("Django", "channels", "channels-redis", "daphne"),
    *("uvicorn", "gunicorn", "uvloop", "websockets", "panther", "picows"),
)
# A load client that is busier than this may be what the numbers measure.
_BUSY = 0.85


def environment(cores: Cores) -> str:
    """Versions of all that takes part, and where it runs."""
    versions = [f"panther_channels {__version__}", f"Python {platform.python_version()}"]
    versions += [f"{name} {_version(name)}" for name in _PACKAGES]
    if cores.server is None:
        place = "servers and load not pinned to cores"
    else:
        place = f"servers on core {cores.server}, load on core {cores.load}"
    loop = "asyncio" if _version("uvloop") == "-" else "uvloop"
    return (
        f"{', '.join(versions[:6])},\n{', '.join(versions[6:])}\n"
        f"{place}; uvicorn's event loop: auto ({loop}), daphne's: asyncio; no access logs"
    )


def shares(target: Target, results: Results) -> list[float]:
    """For each round the work per processor second, as a share of the raw application's."""
    return [
        (window.rate / window.server_cpu) / (raw.rate / raw.server_cpu)
        for window, raw in zip(results[target], results[target.reference("")], strict=True)
    ]


def shares_by_clock(target: Target, results: Results) -> list[float]:
    """The same by the clock on the wall, with all that disturbed it."""
    rounds = zip(results[target], results[target.reference("")], strict=True)
    return [window.rate / raw.rate for window, raw in rounds]


def table(kind: str, results: Results, rounds: int, seconds: float) -> str:
    """One table with a row for each target, medians of all rounds."""
    heading, unit = HEADINGS[kind]
    names = (
        *("server", "application", "of raw", "spread", "target", "", "by clock"),
        *(unit, "CPU", "client CPU"),
    )
    rows = [_row(kind, target, results) for target in results]
    return f"{heading}; median of {rounds} x {seconds:g} s\n{aligned([names, *rows], words=2)}"


def memory(results: dict[Target, float]) -> str:
    """What an idle connection costs each server."""
    rows = []
    for target, size in results.items():
        is_judged = target.application == "ours" and target.layer == "pubsub"
        verdict = "ok" if size <= IDLE else "LOW"
        judged = (f"<= {IDLE / 1000:g}", verdict) if is_judged else ("", "")
        rows.append((target.server, target.title, f"{size / 1000:.1f}", *judged))
    names = ("server", "application", "kB", "target", "")
    heading = f"Memory of one idle connection, of {IDLE_CONNECTIONS} that were opened"
    return f"{heading}\n{aligned([names, *rows], words=2)}"


def below_target(kind: str, results: Results) -> list[str]:
    """A sentence for each row of ours that misses its target."""
    return [
        f"{kind} of {target.title} on {target.server}: {share:.2f} of raw, target {least:.2f}"
        for target in results
        if (least := _least(kind, target)) is not None
        and (share := statistics.median(shares(target, results))) < least
    ]


def load_client(results: dict[str, Results], ceiling: Window | None) -> str:
    """Whether the load client was the bottleneck of any row."""
    lines = [_busiest(kind, windows) for kind, windows in results.items()]
    every = [
        window for targets in results.values() for windows in targets.values() for window in windows
    ]
    if (got := statistics.median(window.server_cpu for window in every)) < _BUSY:
        lines.append(
            f"The machine was busy with other things: servers got {got:.0%} of their core."
        )
    if ceiling is not None:
        fastest = max(window.rate for windows in results["echo"].values() for window in windows)
        lines.append(
            f"Against an echo server of picows the client drives {ceiling.rate:,.0f} messages/s, "
            f"{ceiling.rate / fastest:.1f} times the fastest row."
        )
    return "\n".join(lines)


def aligned(rows: Iterable[Sequence[str]], words: int) -> str:
    """Columns, of which so many hold words, to the left, and the others figures, to the right."""
    columns = list(zip(*rows, strict=True))
    padded = [
        [cell.ljust(width) if index < words else cell.rjust(width) for cell in column]
        for index, column in enumerate(columns)
        if (width := max(map(len, column)))
    ]
    return "\n".join("  ".join(row).rstrip() for row in zip(*padded, strict=True))


def _busiest(kind: str, results: Results) -> str:
    target, window = max(
        ((target, window) for target, windows in results.items() for window in windows),
        key=lambda pair: pair[1].client_cpu,
    )
    verdict = "was not" if window.client_cpu < _BUSY else "MAY HAVE BEEN"
    return (
        f"The load client {verdict} the bottleneck of {kind}: at its busiest it used "
        f"{window.client_cpu:.0%} of a core,\nthe server {window.server_cpu:.0%} "
        f"({target.title} on {target.server})."
    )


def _row(kind: str, target: Target, results: Results) -> tuple[str, ...]:
    windows = results[target]
    of_raw = shares(target, results)
    share = statistics.median(of_raw)
    least = _least(kind, target)
    is_raw = target.application == "raw"
    return (
        target.server,
        target.title,
        f"{share:.2f}",
        "" if is_raw else f"{min(of_raw):.2f}-{max(of_raw):.2f}",
        "" if least is None else f">= {least:.2f}",
        "" if least is None else ("ok" if share >= least else "LOW"),
        f"{statistics.median(shares_by_clock(target, results)):.2f}",
        f"{statistics.median(window.rate for window in windows):,.0f}",
        f"{statistics.median(window.server_cpu for window in windows):.0%}",
        f"{statistics.median(window.client_cpu for window in windows):.0%}",
    )


def _least(kind: str, target: Target) -> float | None:
    return TARGETS.get((kind, bool(target.layer))) if target.application == "ours" else None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "-"
