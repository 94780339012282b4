"""Rates and latencies of WebSockets beside their peers': ``python -m tests.benchmarks``.

The machine is taken to be noisy. So all servers stay up for the whole run, every round measures
each of them once, and a row is the median of the ratios that it had in each round to what it is
compared with: for echo and connects a raw ASGI application on the same server, for outside sends
Panther with Redis. What is compared is the work done per second of processor time: under load a
server uses up its core, so that this is its throughput without what other processes took of the
core. The column "by clock" compares what the clock says.
"""

import argparse
import contextlib
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks import publishing, report, scale
from tests.benchmarks.bench import Bench
from tests.benchmarks.load import Window
from tests.benchmarks.processes import Cores
from tests.benchmarks.publishing import publish
from tests.benchmarks.targets import (
    LAYERS,
    OVERLOADED,
    PACED,
    RATES,
    ROWS,
    SERVERS,
    TITLES,
    Target,
    select,
)

_OUTSIDE = ("outside", "sync")

Wanted = dict[str, list[Target]]
#: What each round gave, by the kind of the table and its row.
Measured = dict[str, dict[Target, list[Any]]]


def main() -> int:
    """Runs what the command line asks for, and returns the exit code."""
    parser = _parser()
    options = parser.parse_args()
    wanted = {kind: targets for kind, targets in select(options.only).items() if targets}
    if options.check and not any(target.application == "ours" for target in wanted.get("echo", ())):
        parser.error("--check needs the echo of ours among --only")
    cores = Cores.choose()
    _soft, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))  # of servers and clients, too
    with contextlib.ExitStack() as stack:
        bench = Bench(stack, Path(stack.enter_context(tempfile.TemporaryDirectory())), cores)
        servers = dict.fromkeys(target.served for targets in wanted.values() for target in targets)
        _tell(f"starting {len(servers)} servers")
        bench.start(servers)
        idle = {target: bench.memory(target) for target in wanted.pop("memory", ())}
        reached = {target: bench.reach(target) for target in wanted.pop("reach", ())}
        measured = _measure(bench, wanted, options)
        ceiling = bench.ceiling(options.seconds) if "echo" in wanted else None
        paced = [target for target in PACED if target in wanted.get("echo", ())]
        curves = _latencies(bench, paced, options) if options.publish else {}
    if options.publish:
        publish(options.publish, _results(measured, idle, curves, options, cores))
    # The others are shown, not judged: they depend on the machine's network stack and scheduler.
    missed = report.below_target(measured.get("echo", {}))
    tables = [*_tables(measured, idle, ceiling, options)]
    if reached:
        tables.append(report.reach(reached))
    print("\n\n".join([report.environment(cores), *tables]))
    for sentence in missed:
        print(f"\nBelow target: {sentence}")
    return 1 if options.check and missed else 0


def _measure(bench: Bench, wanted: Wanted, options: argparse.Namespace) -> Measured:
    measured: Measured = {kind: {} for kind in wanted}
    for number in range(options.rounds):
        _tell(f"round {number + 1} of {options.rounds}")
        for kind, targets in wanted.items():
            is_outside = kind in _OUTSIDE
            if is_outside and number % 2:  # they have many rows, and take longer
                continue
            for target in _there_and_back(targets, number // 2 if is_outside else number):
                if is_outside:
                    found: Any = bench.delivery(target, options.seconds)
                else:
                    found = bench.window(kind, target, options.seconds)
                measured[kind].setdefault(target, []).append(found)
    return measured


def _latencies(
    bench: Bench, targets: list[Target], options: argparse.Namespace
) -> publishing.Latencies:
    found: publishing.Latencies = {}
    for number in range(min(options.rounds, 3)):
        for target in _there_and_back(targets, number):
            for rate in RATES:
                paced = bench.paced(target, rate, options.seconds)
                found.setdefault(target, {}).setdefault(rate, []).append(paced)
                if paced["p99"] > OVERLOADED:
                    break
    return found


def _results(
    measured: Measured,
    idle: dict[Target, float],
    curves: publishing.Latencies,
    options: argparse.Namespace,
    cores: Cores,
) -> dict[str, Any]:
    """All that is published, with the curve of scale."""
    results: dict[str, Any] = {
        "machine": publishing.machine(),
        "versions": report.environment(cores).splitlines(),
        "rounds": options.rounds,
        "seconds": options.seconds,
    }
    for kind, found in measured.items():
        is_outside = kind in _OUTSIDE
        results[kind] = publishing.deliveries(found) if is_outside else publishing.windows(found)
    results["memory"] = [
        publishing.named(target, kb=round(size / 1000, 1)) for target, size in idle.items()
    ]
    results["latency"] = publishing.latencies(curves)
    if not options.only:
        results["scale"] = []
        for shape in scale.PUBLISHED:
            for size in scale.SIZES:
                _tell(f"{shape.target.name}, {shape.title}: {size}")
                figures = scale.run(shape, size, 1, cores)
                results["scale"].append(publishing.scale_row(shape.target, shape.title, figures))
    return results


def _there_and_back(targets: list[Target], number: int) -> list[Target]:
    """Every second round backwards, so that a drift of the machine cancels out."""
    return targets[:: -1 if number % 2 else 1]


def _tables(
    measured: Measured, idle: dict[Target, float], ceiling: Window | None, options: Any
) -> Iterator[str]:
    windows = {kind: found for kind, found in measured.items() if kind not in _OUTSIDE}
    for kind, found in windows.items():
        yield report.table(kind, found, options.rounds, options.seconds)
    if windows:
        yield report.load_client(windows, ceiling)
    for kind in [kind for kind in measured if kind in _OUTSIDE]:
        yield report.outside_table(kind, measured[kind], options.seconds)
        if kind == "outside":
            yield report.latencies(measured[kind])
    if idle:
        yield report.memory(idle)
    if shutil.which("redis-server") is None:
        yield "redis-server is missing: no rows with Redis."


def _parser() -> argparse.ArgumentParser:
    words = (*ROWS, *SERVERS, *TITLES, *LAYERS)
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.8, help="of each window (default 0.8)")
    parser.add_argument(
        "--rounds",
        type=int,
        default=5,
        help="of all rows, in every second of which outside sends are left out (default 5)",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=words,
        default=[],
        metavar="WORD",
        help=f"leave out the rest; any of: {', '.join(words)}",
    )
    parser.add_argument(
        "--publish", type=Path, metavar="FOLDER", help="write results.json and plots there, too"
    )
    parser.add_argument(
        "--check", action="store_true", help="exit 1 if our echo is below its target on a server"
    )
    return parser


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
