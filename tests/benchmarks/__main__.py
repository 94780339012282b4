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
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks import report, report_outside
from tests.benchmarks.bench import Bench
from tests.benchmarks.load import Window
from tests.benchmarks.processes import Cores
from tests.benchmarks.targets import LAYERS, ROWS, SERVERS, TITLES, Target, select

_OUTSIDE = ("outside", "sync")

Wanted = dict[str, list[Target]]


@dataclass
class Measured:
    """All that one run measured, by the kind of the table."""

    idle: dict[Target, float] = field(default_factory=dict)
    windows: dict[str, report.Results] = field(default_factory=dict)
    deliveries: dict[str, report_outside.Deliveries] = field(default_factory=dict)
    ceiling: Window | None = None


def main() -> int:
    """Runs what the command line asks for, and returns the exit code."""
    parser = _parser()
    options = parser.parse_args()
    wanted = {kind: targets for kind, targets in select(options.only).items() if targets}
    if options.check and not any(target.application == "ours" for target in wanted.get("echo", ())):
        parser.error("--check needs the echo of ours among --only")
    cores = Cores.choose()
    with contextlib.ExitStack() as stack:
        bench = Bench(stack, Path(stack.enter_context(tempfile.TemporaryDirectory())), cores)
        servers = dict.fromkeys(target.served for targets in wanted.values() for target in targets)
        _tell(f"starting {len(servers)} servers")
        bench.start(servers)
        measured = _measure(bench, wanted, options)
    return _print(measured, options, cores)


def _measure(bench: Bench, wanted: Wanted, options: argparse.Namespace) -> Measured:
    measured = Measured()
    for target in wanted.get("memory", ()):  # before anything else has grown them
        measured.idle[target] = bench.memory(target)
    for number in range(1, options.rounds + 1):
        _tell(f"round {number} of {options.rounds}")
        for kind, targets in wanted.items():
            if kind in _OUTSIDE:
                if number % 2:  # they have many rows, and take longer
                    delivered = measured.deliveries.setdefault(kind, {})
                    for target in _there_and_back(targets, number // 2):
                        delivery = bench.delivery(target, options.seconds)
                        delivered.setdefault(target, []).append(delivery)
            elif kind != "memory":
                windows = measured.windows.setdefault(kind, {})
                for target in _there_and_back(targets, number - 1):
                    window = bench.window(kind, target, options.seconds)
                    windows.setdefault(target, []).append(window)
    if "echo" in wanted:
        measured.ceiling = bench.ceiling(options.seconds)
    return measured


def _there_and_back(targets: list[Target], number: int) -> list[Target]:
    """Every second round backwards, so that a drift of the machine cancels out."""
    return targets[:: -1 if number % 2 else 1]


def _print(measured: Measured, options: argparse.Namespace, cores: Cores) -> int:
    tables = [
        report.table(kind, windows, options.rounds, options.seconds)
        for kind, windows in measured.windows.items()
    ]
    if measured.windows:
        tables.append(report.load_client(measured.windows, measured.ceiling))
    for kind, delivered in measured.deliveries.items():
        tables.append(report_outside.table(kind, delivered, options.seconds))
        if kind == "outside":
            tables.append(report_outside.latencies(delivered))
    if measured.idle:
        tables.append(report.memory(measured.idle))
    if shutil.which("redis-server") is None:
        tables.append("redis-server is missing: no rows with Redis.")
    # The others are shown, not judged: they depend on the machine's network stack and scheduler.
    missed = report.below_target("echo", measured.windows.get("echo", {}))
    print("\n\n".join([report.environment(cores), *tables]))
    for sentence in missed:
        print(f"\nBelow target: {sentence}")
    return 1 if options.check and missed else 0


def _parser() -> argparse.ArgumentParser:
    words = (*ROWS, *SERVERS, *TITLES, *LAYERS)
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "--seconds", type=_bounded(float, 0.1, 60), default=0.8, help="of each window (default 0.8)"
    )
    parser.add_argument(
        "--rounds",
        type=_bounded(int, 1, 100),
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
        "--check", action="store_true", help="exit 1 if our echo is below its target on a server"
    )
    return parser


def _bounded(kind: type[float] | type[int], least: float, most: float):
    def parse(text: str) -> float:
        number = kind(text)
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"from {least} to {most}")
        return number

    return parse


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
