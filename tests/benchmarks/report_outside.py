"""The tables of the outside sends as plain text."""

import statistics
from collections.abc import Callable
from typing import NamedTuple

from tests.benchmarks.outside import CONNECTIONS, SINGLES, Delivery
from tests.benchmarks.report import aligned
from tests.benchmarks.sender import SIZE, WINDOW
from tests.benchmarks.targets import Target

Deliveries = dict[Target, list[Delivery]]

HEADINGS = {
    "outside": f"Outside sends, awaited one after the other by a plain script, to {CONNECTIONS} "
    f"connections in turn;\n{SIZE} bytes each, at most {WINDOW} under way",
    "sync": "Outside sends of a plain script's thread, beside async_to_sync(layer.group_send) over "
    f"Redis pub/sub;\n{SIZE} bytes each, to {CONNECTIONS} connections in turn",
}
_COMPARED = {"outside": "of Panther", "sync": "of async_to_sync"}
_SYNC_TITLES = {"ours": "panther_channels.sync", "channels": "async_to_sync"}
# Milliseconds for one message, for ours alone.
LATENCIES = {"local": 0.3, "pubsub": 0.5}


class Judged(NamedTuple):
    """A row's ratios to what it is compared with, one for each round, and its target."""

    ratios: list[float]
    least: float | None

    @property
    def cells(self) -> tuple[str, ...]:
        if not self.ratios:
            return ("",) * 4
        ratio = statistics.median(self.ratios)
        verdict = "" if self.least is None else "ok" if ratio >= self.least else "LOW"
        return (
            f"{ratio:.2f}",
            f"{min(self.ratios):.2f}-{max(self.ratios):.2f}",
            "" if self.least is None else f">= {self.least:g}",
            verdict,
        )


def table(kind: str, results: Deliveries, seconds: float) -> str:
    """What was delivered; medians of all rounds."""
    names = (
        *("server", "application", "workers", _COMPARED[kind], "spread", "target", ""),
        *("by clock", "messages/s", "us: sender", "servers", "Redis", "lost"),
    )
    rows = [_row(kind, target, results) for target in results]
    rounds = max(map(len, results.values()))
    heading = f"{HEADINGS[kind]}; median of {rounds} x {seconds:g} s"
    faults = [sentence for target in results for sentence in _faults(target, results[target])]
    return "\n".join([heading, aligned([names, *rows], words=2), *_shared(results), *faults])


def latencies(results: Deliveries) -> str:
    """How long one message took that had all to itself."""
    names = ("server", "application", "workers", "p50 ms", "spread", "target", "", "p99 ms")
    rows = []
    for target, deliveries in results.items():
        halves = [delivery.p50 for delivery in deliveries]
        p50, most = statistics.median(halves), LATENCIES.get(target.layer)
        is_judged = target.application == "ours" and most is not None
        rows.append(
            (
                *(target.server, target.title, f"{target.workers}", f"{p50:.2f}"),
                f"{min(halves):.2f}-{max(halves):.2f}",
                f"<= {most:g}" if is_judged else "",
                ("" if most is None or not is_judged else "ok" if p50 <= most else "LOW"),
                f"{statistics.median(delivery.p99 for delivery in deliveries):.2f}",
            )
        )
    heading = f"From the send to the client, one message at a time; {SINGLES} of them in each round"
    return f"{heading}\n{aligned([names, *rows], words=2)}"


def _row(kind: str, target: Target, results: Deliveries) -> tuple[str, ...]:
    by_clock = _ratios(kind, target, results, lambda delivery: delivery.rate)
    # Half a dozen processes share two cores, and with whatever else runs: what they have done is
    # compared by the processor time of all that a message passes through. A sync send is compared
    # by the clock, since there it is one thread that waits.
    ratios = by_clock if kind == "sync" else _ratios(kind, target, results, _by_cost)
    title = target.title
    if kind == "sync":
        title = title.replace(title.partition(",")[0], _SYNC_TITLES[target.application])

    def median(value: Callable[[Delivery], float]) -> str:
        return f"{statistics.median(map(value, results[target])):,.0f}"

    faults = sum(item.lost + item.repeated + item.disordered for item in results[target])
    return (
        *(target.server, title, f"{target.workers}"),
        *Judged(ratios, _least(kind, target)).cells,
        f"{statistics.median(by_clock):.2f}" if by_clock else "",
        *(median(lambda item: item.rate), median(lambda item: item.sender)),
        *(median(lambda item: item.servers), median(lambda item: item.redis)),
        f"{faults}" if not faults else "SEE BELOW",
    )


def _by_cost(delivery: Delivery) -> float:
    return 1 / max(delivery.sender + delivery.servers + delivery.redis, 0.1)


def _ratios(
    kind: str, target: Target, results: Deliveries, value: Callable[[Delivery], float]
) -> list[float]:
    rounds = zip(results[target], results.get(target.reference(kind), []), strict=False)
    return [value(delivery) / value(reference) for delivery, reference in rounds]


def _least(kind: str, target: Target) -> float | None:
    if target.application != "ours":
        return None
    if kind == "sync":
        return 10
    several = 3 if target.workers > 1 else 1
    return {"local": 4, "pubsub": several}.get(target.layer)


def _shared(results: Deliveries) -> list[str]:
    numbers = [
        number
        for target, deliveries in results.items()
        for delivery in deliveries
        for number in delivery.connections
        if target.workers > 1
    ]
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
