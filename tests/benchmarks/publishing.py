"""What a run found, as the files that docs/performance.md shows."""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks import plots, report
from tests.benchmarks.crowd import Figures
from tests.benchmarks.load import Window
from tests.benchmarks.targets import Target

# By server and application: milliseconds at each rate, of several rounds.
Latencies = dict[Target, dict[int, list[dict[str, float]]]]

# Between them, the page has what was found.
_BEGIN, _END = "<!-- results: written by `make bench` -->", "<!-- end of results -->"
_SERVERS = {"picows": "uvicorn+picows", "own": "its own server"}


def machine() -> dict[str, Any]:
    """Where it was measured, and how busy that was."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "load_average": [round(each, 1) for each in os.getloadavg()],
    }


def windows(results: report.Results) -> list[dict[str, Any]]:
    """Echoes or connects, by processor time and by clock.

    Here all are compared with the same one, a raw application on uvicorn, so that rows of different
    servers can stand beside each other.
    """
    rows, raw = [], Target("uvicorn", "raw")
    for target, found in results.items():
        by_clock = report.ratios(target, raw, results, lambda window: window.rate)
        rows.append(
            {
                **_named(target),
                "of_raw": _spread(report.ratios(target, raw, results, _work)),
                "of_raw_by_clock": _spread(by_clock),
                "per_second": round(statistics.median(window.rate for window in found)),
                # Not the median of these: a server may have been away for one whole window.
                "server_us": round(1e6 / statistics.median(_work(window) for window in found), 1),
            }
        )
    return rows


def deliveries(results: report.Deliveries) -> list[dict[str, Any]]:
    """Outside sends."""

    def median(found: Sequence[Any], name: str) -> float:
        return round(float(statistics.median(getattr(each, name) for each in found)), 2)

    names = ("rate", "sender", "servers", "redis", "p50", "p99")
    return [
        {**_named(target), "how": target.how, **{name: median(found, name) for name in names}}
        for target, found in results.items()
    ]


def publish(folder: Path, results: dict[str, Any]) -> None:
    """Writes results.json, and a plot for each table that there is."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    for name, drawn in _plots(results):
        (folder / f"{name}.svg").write_text(drawn)
    page = folder.with_suffix(".md")
    if page.exists():
        before, begin, rest = page.read_text().partition(_BEGIN)
        _, end, after = rest.partition(_END)
        page.write_text(f"{before}{begin}\n\n{_table(results)}\n\n{end}{after}")


def _table(results: dict[str, Any]) -> str:
    """What was measured where, and a row for each application."""
    where = results["machine"]
    lines = [
        f"{where['processor']}, {where['cores']} cores, {where['memory_gb']:g} GB, "
        f"{where['system']}; load average at the end "
        f"{', '.join(f'{each:g}' for each in where['load_average'])}. "
        f"{' '.join(results['versions'])}. "
        f"Rounds: {results['rounds']}, of {results['seconds']:g} s each.",
        "",
        "| application | server | echo, of raw | echoes/s | opening, of raw |",
        "|---|---|---|---|---|",
    ]
    opened = {(row["server"], row["title"]): row["of_raw"] for row in results.get("connects", ())}
    for row in sorted(results.get("echo", ()), key=lambda row: -row["of_raw"]["median"]):
        name = f"**{row['title']}**" if _is_ours(row) else row["title"]
        opening = opened.get((row["server"], row["title"]))
        cells = [
            *(name, _SERVERS.get(row["server"], row["server"])),
            *(_cell(row["of_raw"]), f"{row['per_second']:,}", _cell(opening) if opening else ""),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "| sends from outside | server | workers | messages/s | sender, µs | server, µs |",
        "|---|---|---|---|---|---|",
    ]
    for row in sorted(results.get("outside", ()), key=lambda row: (row["workers"], -row["rate"])):
        name = f"**{row['title']}**" if _is_ours(row) else row["title"]
        costs = (f"{row[of]:.0f}" if row[of] else "" for of in ("sender", "servers"))
        cells = [name, row["server"], f"{row['workers']}", f"{row['rate']:,.0f}", *costs]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(spread: dict[str, float]) -> str:
    return f"{spread['median']:.2f} ({spread['low']:.2f}-{spread['high']:.2f})"


def latencies(found: Latencies) -> list[dict[str, Any]]:
    """The middle of the rounds at each rate."""
    return [
        {
            **_named(target),
            "rate": rate,
            **{
                name: round(statistics.median(each[name] for each in rounds), 3)
                for name in ("p50", "p99")
            },
        }
        for target, rates in found.items()
        for rate, rounds in rates.items()
    ]


def _plots(results: dict[str, Any]) -> list[tuple[str, str]]:
    drawn = []
    for kind, title in (("echo", "Echoes"), ("connects", "Opening and closing a connection")):
        if rows := results.get(kind):
            rows = sorted(rows, key=lambda row: -row["of_raw"]["median"])
            bars = [
                (_title(row), row["of_raw"]["median"], _figure(row["of_raw"]), _is_ours(row))
                for row in rows
            ]
            unit = "work per second of processor time; raw on uvicorn = 1"
            drawn.append((kind, plots.bars(title, bars, unit)))
    if rows := results.get("memory"):
        bars = [(_title(row), row["kb"], f"{row['kb']:.1f}", _is_ours(row)) for row in rows]
        drawn.append(("memory", plots.bars("Memory of an idle connection", bars, "kB")))
    if rows := results.get("latency"):
        series: dict[str, list[plots.Point]] = {}
        for row in rows:
            series.setdefault(_title(row), []).append((row["rate"], row["p99"]))
        unit, across = "milliseconds, the slowest hundredth", "messages a second"
        drawn.append(
            (
                "latency",
                plots.curves(
                    "Latency against load", series, unit, across=across, is_logarithmic=True
                ),
            )
        )
    if rows := results.get("scale"):
        for name, key, title, unit in (
            ("scale-memory", "memory_mb", "Memory of all connections", "MB"),
            ("scale-broadcast", "broadcast", "One message to all", "ms until the last one has it"),
            ("scale-storm", "p99", "All connect at once", "ms, the slowest hundredth"),
        ):
            series = {}
            for row in rows:
                series.setdefault(row["title"], []).append((row["connections"], row[key]))
            drawn.append((name, plots.curves(title, series, unit, across="connections")))
    return drawn


def scale_row(target: Target, layer: str, figures: Figures) -> dict[str, Any]:
    """One point of the curve."""
    server = _SERVERS.get(target.server, target.server)
    return {
        "title": f"{server}, {layer}, {target.workers} process{'es' * (target.workers > 1)}",
        **{name: round(value, 4) for name, value in vars(figures).items()},
        "memory_mb": round(figures.memory * figures.connections / 1e6, 1),
    }


def named(target: Target, **figures: Any) -> dict[str, Any]:
    """A row."""
    return {**_named(target), **figures}


def _named(target: Target) -> dict[str, Any]:
    return {
        "server": target.server,
        "application": target.application,
        "title": target.title,
        "workers": target.workers,
    }


def _title(row: dict[str, Any]) -> str:
    return f"{row['title']} · {_SERVERS.get(row['server'], row['server'])}"


def _is_ours(row: dict[str, Any]) -> bool:
    return bool(row["application"] == "ours")


def _spread(values: Sequence[float]) -> dict[str, float]:
    figures = {"median": statistics.median(values), "low": min(values), "high": max(values)}
    return {name: round(value, 3) for name, value in figures.items()}


def _figure(spread: dict[str, float]) -> str:
    return f"{spread['median']:.2f} ({spread['low']:.2f}-{spread['high']:.2f})"


def _work(window: Window) -> float:
    return window.rate / max(window.server_cpu, 0.001)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
