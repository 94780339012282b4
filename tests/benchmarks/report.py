"""The tables as plain text."""

import platform
import statistics
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from panther_channels import __version__
from tests.benchmarks.load import CONNECTIONS, HANDSHAKES_AT_ONCE, IN_FLIGHT, MESSAGE, Window
from tests.benchmarks.load import IDLE as IDLE_CONNECTIONS
from tests.benchmarks.outside import CONNECTIONS as SENT_TO
from tests.benchmarks.outside import SINGLES, Delivery
from tests.benchmarks.processes import Cores
from tests.benchmarks.reach import LISTED, MANY, MEMBERS, TASKS, Figures
from tests.benchmarks.sender import SIZE, WINDOW
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
# What is good enough for ours, by kind, layer and number of workers: the least share of what a row
# is compared with.
TARGETS = {
    ("echo", "", 1): 0.9,
    ("connects", "", 1): 0.9,
    **dict.fromkeys([("connects", "local", 1), ("connects", "pubsub", 1)], 0.7),
    **dict.fromkeys([("outside", "local", 1), ("outside", "local", 4)], 4),
    ("outside", "pubsub", 1): 1,
    ("outside", "pubsub", 4): 3,
    **dict.fromkeys([("sync", "local", 1), ("sync", "pubsub", 1)], 10),
}
# Of uvicorn with our own protocol, beside a raw application on uvicorn as it comes.
PICOWS_ECHO = 1.7
# kB of memory of an idle connection over Redis pub/sub.
IDLE = 32

Deliveries = dict[Target, list[Delivery]]

OUTSIDE_HEADINGS = {
    "outside": "Outside sends, awaited one after the other by a plain script, to "
    f"{SENT_TO} connections in turn;\n{SIZE} bytes each, at most {WINDOW} under way",
    "sync": "Outside sends of a plain script's thread, beside async_to_sync(layer.group_send) over "
    f"Redis pub/sub;\n{SIZE} bytes each, to {SENT_TO} connections in turn",
}
_COMPARED = {"outside": "of Panther", "sync": "of async_to_sync"}
_SYNC_TITLES = {"ours": "panther_channels.sync", "channels": "async_to_sync"}
# Milliseconds for one message, for ours alone.
LATENCIES = {"local": 0.3, "pubsub": 0.5}

# What is good enough for the figures of reach, by layer: at least, or at most.
REACH: dict[str, tuple[str, dict[str, dict[str, float]]]] = {
    "one": (
        "a confirmed send, one after the other: p50, ms",
        {"local": {"most": 0.5}, "pubsub": {"most": 1}},
    ),
    "tasks": (
        f"confirmed sends of {TASKS} tasks: thousands per second",
        {"local": {"least": 10}, "pubsub": {"least": 5}},
    ),
    "many": (
        f"send_messages() of {MANY:,}: times as fast as one after the other",
        {"pubsub": {"least": 4}},
    ),
    "group": (
        f"a group of {MEMBERS:,} in one process, until the last has its message: s",
        {"local": {"most": 0.3}, "pubsub": {"most": 0.3}},
    ),
    "list": (
        f"{LISTED:,} connections of four processes, listed: s",
        {"local": {"most": 1}, "pubsub": {"most": 1}},
    ),
}

_PACKAGES = (
    *("Django", "channels", "channels-redis", "daphne"),
    *("uvicorn", "gunicorn", "uvloop", "websockets", "panther", "picows"),
    *("starlette", "chanx", "python-socketio", "webrockets", "django-bolt"),
)
# A load client that is busier than this may be what the numbers measure.
_BUSY = 0.85


def environment(cores: Cores) -> str:
    """Versions of all that takes part, and where it runs."""
    versions = [f"panther_channels {__version__}", f"Python {platform.python_version()}"]
    versions += [f"{name} {found}" for name in _PACKAGES if (found := _version(name)) != "-"]
    if cores.server is None:
        place = "servers and load not pinned to cores"
    else:
        place = f"servers on core {cores.server}, load on core {cores.load}"
    loop = "asyncio" if _version("uvloop") == "-" else "uvloop"
    return (
        f"{', '.join(versions[:6])},\n{', '.join(versions[6:])}\n"
        f"{place}; uvicorn's event loop: auto ({loop}), daphne's: asyncio; no access logs"
    )


def ratios(
    target: Target,
    reference: Target,
    results: dict[Target, list[Any]],
    value: Callable[[Any], float],
) -> list[float]:
    """A figure of each round, as a share of what it is compared with."""
    rounds = zip(results[target], results.get(reference, []), strict=False)
    return [value(item) / value(compared) for item, compared in rounds]


def judged(
    values: list[float], *, least: float | None = None, most: float | None = None
) -> tuple[str, str, str, str]:
    """Median, spread, target and verdict."""
    if not values:
        return "", "", "", ""
    median, spread = statistics.median(values), f"{min(values):.2f}-{max(values):.2f}"
    if least is None and most is None:
        return f"{median:.2f}", spread, "", ""
    target = f"<= {most:g}" if least is None else f">= {least:g}"
    is_good = (least is None or median >= least) and (most is None or median <= most)
    return f"{median:.2f}", spread, target, "ok" if is_good else "LOW"


def table(kind: str, results: Results, rounds: int, seconds: float) -> str:
    """One table with a row for each target, medians of all rounds."""
    heading, unit = HEADINGS[kind]
    names = (
        *("server", "application", "of raw", "spread", "target", "", "by clock"),
        *(unit, "CPU", "client CPU"),
    )
    rows = [_row(kind, target, results) for target in results]
    return f"{heading}; median of {rounds} x {seconds:g} s\n{aligned([names, *rows])}"


def memory(results: dict[Target, float]) -> str:
    """What an idle connection costs each server."""
    rows = []
    for target, size in results.items():
        is_judged = target.application == "ours" and target.layer == "pubsub"
        _, _, *verdict = judged([size / 1000], most=IDLE if is_judged else None)
        rows.append((target.server, target.title, f"{size / 1000:.1f}", *verdict))
    names = ("server", "application", "kB", "target", "")
    heading = f"Memory of one idle connection, of {IDLE_CONNECTIONS} that were opened"
    return f"{heading}\n{aligned([names, *rows])}"


def reach(results: dict[Target, Figures]) -> str:
    """How fast connections are reached and listed."""
    rows = [
        (target.title, title, *judged(found[name], **targets.get(target.layer, {})))
        for name, (title, targets) in REACH.items()
        for target, found in results.items()
        if name in found
    ]
    names = ("application", "what", "median", "spread", "target", "")
    return f"Reach: one sender, servers of uvicorn\n{aligned([names, *rows])}"


def below_target(results: Results) -> list[str]:
    """A sentence for each echo of ours that misses its target."""
    return [
        f"echo of {target.title} on {target.server}: {share} of raw, target {least:.2f}"
        for target in results
        if (least := _least("echo", target)) is not None
        for share, *_, verdict in [judged(_shares(target, results), least=least)]
        if verdict != "ok"
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


def aligned(rows: Iterable[Sequence[str]]) -> str:
    """Columns, of which the first two hold words, to the left, the others figures, to the right."""
    columns = list(zip(*rows, strict=True))
    padded = [
        [cell.ljust(width) if index < 2 else cell.rjust(width) for cell in column]
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


def _shares(target: Target, results: Results) -> list[float]:
    """The work per processor second, as a share of the raw application's."""
    raw = target.reference("echo")
    return ratios(target, raw, results, lambda window: window.rate / window.server_cpu)


def _row(kind: str, target: Target, results: Results) -> tuple[str, ...]:
    share, spread, *verdict = judged(_shares(target, results), least=_least(kind, target))
    by_clock = ratios(target, target.reference(kind), results, lambda window: window.rate)

    def median(value: Callable[[Window], float]) -> float:
        return statistics.median(map(value, results[target]))

    return (
        *(target.server, target.title, share),
        *("" if target.application == "raw" else spread, *verdict),
        f"{statistics.median(by_clock):.2f}",
        f"{median(lambda window: window.rate):,.0f}",
        f"{median(lambda window: window.server_cpu):.0%}",
        f"{median(lambda window: window.client_cpu):.0%}",
    )


def _least(kind: str, target: Target) -> float | None:
    is_ours = target.application == "ours"
    if is_ours and (kind, target.server) == ("echo", "picows"):
        return PICOWS_ECHO
    return TARGETS.get((kind, target.layer, target.workers)) if is_ours else None


# Outside sends


def outside_table(kind: str, results: Deliveries, seconds: float) -> str:
    """What was delivered; medians of all rounds."""
    names = (
        *("server", "application", "workers", _COMPARED[kind], "spread", "target", ""),
        *("by clock", "messages/s", "us: sender", "servers", "Redis", "lost"),
    )
    rows = [_outside_row(kind, target, results) for target in results]
    rounds = max(map(len, results.values()))
    heading = f"{OUTSIDE_HEADINGS[kind]}; median of {rounds} x {seconds:g} s"
    faults = [sentence for target in results for sentence in _faults(target, results[target])]
    return "\n".join([heading, aligned([names, *rows]), *_shared(results), *faults])


def latencies(results: Deliveries) -> str:
    """How long one message took that had all to itself."""
    names = ("server", "application", "workers", "p50 ms", "spread", "target", "", "p99 ms")
    rows = []
    for target, deliveries in results.items():
        most = LATENCIES.get(target.layer) if target.application == "ours" else None
        p50 = judged([delivery.p50 for delivery in deliveries], most=most)
        p99 = statistics.median(delivery.p99 for delivery in deliveries)
        rows.append((target.server, target.title, f"{target.workers}", *p50, f"{p99:.2f}"))
    heading = f"From the send to the client, one message at a time; {SINGLES} of them in each round"
    return f"{heading}\n{aligned([names, *rows])}"


def _outside_row(kind: str, target: Target, results: Deliveries) -> tuple[str, ...]:
    reference = target.reference(kind)
    by_clock = ratios(target, reference, results, lambda delivery: delivery.rate)
    # Half a dozen processes share two cores, and with whatever else runs: what they have done is
    # compared by the processor time of all that a message passes through. A sync send is compared
    # by the clock, since there it is one thread that waits.
    compared = by_clock if kind == "sync" else ratios(target, reference, results, _by_cost)
    title = target.title
    if kind == "sync":
        title = title.replace(title.partition(",")[0], _SYNC_TITLES[target.application])

    def median(value: Callable[[Delivery], float]) -> str:
        return f"{statistics.median(map(value, results[target])):,.0f}"

    faults = sum(item.lost + item.repeated + item.disordered for item in results[target])
    return (
        *(target.server, title, f"{target.workers}"),
        *judged(compared, least=_least(kind, target)),
        f"{statistics.median(by_clock):.2f}" if by_clock else "",
        *(median(lambda item: item.rate), median(lambda item: item.sender)),
        *(median(lambda item: item.servers), median(lambda item: item.redis)),
        f"{faults}" if not faults else "SEE BELOW",
    )


def _by_cost(delivery: Delivery) -> float:
    return 1 / max(delivery.sender + delivery.servers + delivery.redis, 0.1)


def _shared(results: Deliveries) -> list[str]:
    several = [results[target] for target in results if target.workers > 1]
    numbers = [n for deliveries in several for item in deliveries for n in item.connections]
    if not numbers:
        return []
    return [f"Of several workers, each had from {min(numbers)} to {max(numbers)} connections."]


def _faults(target: Target, deliveries: list[Delivery]) -> list[str]:
    lost, repeated, disordered = (
        sum(getattr(delivery, name) for delivery in deliveries)
        for name in ("lost", "repeated", "disordered")
    )
    if not lost + repeated + disordered:
        return []
    what = f"{lost} messages lost, {repeated} twice, {disordered} out of order"
    return [f"FAULTY: {target.title} on {target.server}, workers: {target.workers}: {what}."]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "-"
