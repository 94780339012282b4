"""Echo and connect rates beside those of a raw ASGI application: ``python -m tests.benchmarks``.

The machine is taken to be noisy. So all servers stay up for the whole run, every round measures
each of them once, and a row is the median of the shares that it had of the raw application on the
same server in the same round. What is compared is the work done per second of processor time that
the server got: under load it uses up its core, so that this is its throughput without what other
processes took of the core. The column "by clock" compares what the clock says.
"""

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks import report
from tests.benchmarks.load import Window
from tests.benchmarks.targets import TITLES, Cores, PicowsServer, Target, pinned
from tests.servers import ROOT, SERVER_NAMES, Process, RedisServer

KINDS = ("echo", "connects")
WARM_UP = 0.2

_TARGETS = {
    "echo": (
        *(Target("daphne", application) for application in ("raw", "ours", "channels")),
        *(Target("uvicorn", application) for application in TITLES),
    ),
    "connects": (
        Target("daphne", "raw"),
        Target("daphne", "ours"),
        Target("daphne", "ours", redis=True),
        Target("daphne", "channels"),
        Target("daphne", "channels", redis=True),
        Target("uvicorn", "raw"),
        Target("uvicorn", "ours"),
        Target("uvicorn", "ours", redis=True),
        Target("uvicorn", "channels"),
        Target("uvicorn", "channels", redis=True),
        Target("uvicorn", "panther"),
    ),
}


def main() -> int:
    """Runs what the command line asks for, and returns the exit code."""
    parser = _parser()
    options = parser.parse_args()
    wanted = select(options.only)
    if options.check and not any(target.application == "ours" for target in wanted["echo"]):
        parser.error("--check needs the echo of ours among --only")
    cores = Cores.choose()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = _start(stack, folder, wanted, cores)
        results: dict[str, report.Results] = {
            kind: {target: [] for target in targets} for kind, targets in wanted.items() if targets
        }
        for number in range(1, options.rounds + 1):
            _tell(f"round {number} of {options.rounds}")
            for kind, windows in results.items():
                # Every second round backwards, so that a drift of the machine cancels out.
                for target in list(windows)[:: 1 if number % 2 else -1]:
                    server = servers[target]
                    windows[target].append(measure(kind, server, options.seconds, cores))
        ceiling = _ceiling(folder, options.seconds, cores) if "echo" in results else None
    return _print(results, ceiling, options, cores)


def select(only: list[str]) -> dict[str, list[Target]]:
    """The targets of each table that the words name; the raw ones are always among them."""
    kinds = [word for word in only if word in KINDS] or KINDS
    servers = [word for word in only if word in SERVER_NAMES] or SERVER_NAMES
    applications = ["raw", *([word for word in only if word in TITLES] or TITLES)]
    redis = shutil.which("redis-server") is not None
    return {
        kind: [
            target
            for target in targets
            if kind in kinds and target.server in servers and target.application in applications
            if redis or not target.redis
        ]
        for kind, targets in _TARGETS.items()
    }


def measure(kind: str, server: Process, seconds: float, cores: Cores) -> Window:
    """One window of load on the server, by a client process of its own.

    Raises:
        SystemExit: The load failed; the message ends with the server's log.
    """
    url = f"ws://{server.host}:{server.port}/ws"
    arguments = (kind, url, str(server.pid), str(WARM_UP), str(seconds))
    with pinned(cores.load):
        client = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.load", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=seconds + 60,
            check=False,
        )
    if client.returncode:
        raise SystemExit(f"{' '.join(server.command)}\n{client.stderr}\n{server.log[-5000:]}")
    return Window(**json.loads(client.stdout))


def _start(
    stack: contextlib.ExitStack, folder: Path, wanted: dict[str, list[Target]], cores: Cores
) -> dict[Target, Process]:
    targets = dict.fromkeys(target for targets in wanted.values() for target in targets)
    _tell(f"starting {len(targets)} servers")
    redis_url = ""
    if any(target.redis for target in targets):
        with pinned(cores.load):
            redis_url = stack.enter_context(RedisServer(log_path=folder / "redis.log")).url
    servers: dict[Target, Process] = {}
    with pinned(cores.server):
        for target in targets:
            servers[target] = stack.enter_context(target.build(folder, redis_url))
    return servers


def _ceiling(folder: Path, seconds: float, cores: Cores) -> Window:
    with contextlib.ExitStack() as stack:
        with pinned(cores.server):
            server = stack.enter_context(PicowsServer(folder))
        windows = [measure("echo", server, seconds, cores) for _ in range(3)]
        return max(windows, key=lambda window: window.rate)


def _print(
    results: dict[str, report.Results],
    ceiling: Window | None,
    options: argparse.Namespace,
    cores: Cores,
) -> int:
    print(report.environment(cores))
    for kind, windows in results.items():
        print(f"\n{report.table(kind, windows, options.rounds, options.seconds)}")
    print(f"\n{report.load_client(results, ceiling)}")
    if shutil.which("redis-server") is None and "connects" in results:
        print("\nredis-server is missing: no rows with Redis.")
    # Connect rates are shown, not judged: they depend on the machine's network stack, too.
    missed = report.below_target("echo", results.get("echo", {}))
    for sentence in missed:
        print(f"\nBelow target: {sentence}")
    return 1 if options.check and missed else 0


def _parser() -> argparse.ArgumentParser:
    words = (*KINDS, *SERVER_NAMES, *TITLES)
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "--seconds", type=_bounded(float, 0.1, 60), default=0.8, help="of each window (default 0.8)"
    )
    parser.add_argument(
        "--rounds", type=_bounded(int, 1, 100), default=5, help="of all targets (default 5)"
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
