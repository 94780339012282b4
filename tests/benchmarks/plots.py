"""Plots as SVG: bars and curves, legible on a light and on a dark page, and at a phone's width."""

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape

WIDTH = 480
_LINE, _TOP = 40, 56
_HEIGHT, _LEFT, _RIGHT = 240, 56, 24
_COLOURS = ("ours", "a", "b", "c", "d", "e")
# A picture sees the system's scheme, not the page's: with its own ground it is legible on both.
_STYLE = """
svg { --ground: #fff; --text: #333; --line: #bbb; --ours: #0a7d5a; --a: #2f6fdb; --b: #c2571a;
  --c: #8a4fc4; --d: #b3261e; --e: #6b7280; }
@media (prefers-color-scheme: dark) {
  svg { --ground: #131416; --text: #ddd; --line: #555; --ours: #3ecf9d; --a: #7fb0ff; --b: #ff9d5c;
    --c: #c9a0f5; --d: #ff8a80; --e: #a3abb8; }
}
.ground { fill: var(--ground); } text { fill: var(--text); font: 14px sans-serif; }
.title { font-weight: bold; } .end { text-anchor: end; } .middle { text-anchor: middle; }
.grid { stroke: var(--line); stroke-width: 1; } .curve { fill: none; stroke-width: 2.5; }
"""

Point = tuple[float, float]


def bars(title: str, rows: Sequence[tuple[str, float, str, bool]], unit: str) -> str:
    """A bar a row: its name, its length, the figure at its end, and whether it is ours."""
    longest = max(value for _, value, _, _ in rows)
    parts = []
    for index, (name, value, figure, is_ours) in enumerate(rows):
        top = _TOP + index * _LINE
        length = max(1.0, (WIDTH - 150) * value / longest)
        colour = "ours" if is_ours else "e"
        parts += [
            f'<text x="12" y="{top + 12}">{escape(name)}</text>',
            f'<rect x="12" y="{top + 17}" width="{length:.1f}" height="12" '
            f'fill="var(--{colour})"/>',
            f'<text x="{length + 18:.1f}" y="{top + 28}">{escape(figure)}</text>',
        ]
    described = "; ".join(f"{name}: {figure}" for name, _, figure, _ in rows)
    return _svg(title, f"{unit}. {described}", _TOP + len(rows) * _LINE + 8, parts, unit)


def curves(
    title: str,
    series: dict[str, list[Point]],
    unit: str,
    *,
    across: str,
    is_logarithmic: bool = False,
) -> str:
    """A curve for each name; logarithmic in both directions, or in none."""
    points = [point for each in series.values() for point in each]
    bottom = _TOP + _HEIGHT
    scale: Callable[[float], float] = math.log10 if is_logarithmic else float
    x_ticks, y_ticks = (
        _ticks([point[axis] for point in points], is_logarithmic) for axis in (0, 1)
    )

    def place(value: float, ticks: Sequence[float], begin: float, end: float) -> float:
        low, high = scale(ticks[0]), scale(ticks[-1])
        return begin + (scale(value) - low) / (high - low) * (end - begin)

    def x(value: float) -> float:
        return place(value, x_ticks, _LEFT, WIDTH - _RIGHT)

    def y(value: float) -> float:
        return place(value, y_ticks, bottom, _TOP + 8)

    parts = []
    for tick in y_ticks:
        parts += [
            f'<path class="grid" d="M{_LEFT} {y(tick):.1f}H{WIDTH - _RIGHT}"/>',
            f'<text class="end" x="{_LEFT - 6}" y="{y(tick) + 5:.1f}">{_short(tick)}</text>',
        ]
    for tick in x_ticks:
        parts.append(
            f'<text class="middle" x="{x(tick):.1f}" y="{bottom + 20}">{_short(tick)}</text>'
        )
    parts.append(
        f'<text class="end" x="{WIDTH - _RIGHT}" y="{bottom + 42}">{escape(across)}</text>'
    )
    for index, (name, each) in enumerate(series.items()):
        colour, row = _COLOURS[index % len(_COLOURS)], bottom + 66 + 22 * index
        way = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in each)
        # Colours alone don't tell: the curves have dashes, too.
        dash = f' stroke-dasharray="{3 * index} 3"' if index else ""
        line = f'class="curve" stroke="var(--{colour})"{dash}'
        parts += [
            f'<polyline {line} points="{way}"/>',
            f'<path {line} d="M12 {row - 5}h36"/><text x="56" y="{row}">{escape(name)}</text>',
        ]
    described = "; ".join(
        f"{name}: " + ", ".join(f"{b:.3g} at {a:,.0f}" for a, b in each)
        for name, each in series.items()
    )
    return _svg(title, f"{unit}. {described}", bottom + 60 + 22 * len(series), parts, unit)


def _ticks(values: Iterable[float], is_logarithmic: bool) -> list[float]:
    low, high = min(values := list(values)), max(values)
    if is_logarithmic:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        return [10.0**power for power in range(first, max(last, first + 1) + 1)]
    step = 10 ** math.floor(math.log10(high / 2 or 1))
    while high / step > 5:
        step *= 2
    return [step * number for number in range(math.ceil(high / step) + 1)]


def _short(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def _svg(title: str, text: str, height: int, parts: Iterable[str], unit: str) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" role="img" aria-labelledby="title text">',
            f'<title id="title">{escape(title)}</title><desc id="text">{escape(text)}</desc>',
            f"<style>{_STYLE}</style>",
            f'<rect class="ground" width="{WIDTH}" height="{height}"/>',
            f'<text class="title" x="12" y="22">{escape(title)}</text>',
            f'<text x="12" y="42">{escape(unit)}</text>',
            *parts,
            "</svg>",
            "",
        ]
    )
