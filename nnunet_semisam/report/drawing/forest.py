"""A forest plot as inline SVG: a row per comparison, its interval, and in words what may be said of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nnunet_semisam.report.drawing.charts import Marker, color_class, marker, round_ticks, tooltip
from nnunet_semisam.report.drawing.html_parts import escape

WIDTH = 860
ROW = 24  # height of a row in pixels of the drawing
LEFT = 210  # where names end
RIGHT = 590  # where values begin
TOP = 8
BOTTOM = 46


@dataclass(frozen=True)
class ForestRow:
    """A comparison.

    Attributes:
        name: What is compared; a row without ``mean`` is a heading.
        verdict: What may be said of it.
        value: The numbers as text.
        kind: ``good``, ``bad`` or empty: the colour of the verdict.
        mark: Colour and form of the trainer.
        mean, low, high: In the unit of the axis; ``None`` where there is none.
        title: Text beside the pointer.
    """

    name: str
    verdict: str = ""
    value: str = ""
    kind: str = ""
    mark: Marker | None = None
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    title: str = ""


def forest_plot(rows: Sequence[ForestRow], title: str, axis: str) -> str:
    """Return a figure; empty if no row has a number.

    Args:
        rows: Headings and comparisons, from top to bottom.
        title: What the plot shows, for those who hear the page.
        axis: Title of the axis.
    """
    numbers = [value for row in rows for value in (row.mean, row.low, row.high) if value is not None]
    if not numbers:
        return ""
    ticks = round_ticks(min(0.0, *numbers), max(0.0, *numbers))
    base = TOP + ROW * len(rows)

    def x(value: float) -> float:
        return LEFT + 10 + (RIGHT - LEFT - 20) * (value - ticks[0]) / (ticks[-1] - ticks[0])

    parts = [_axis(ticks, x, base, axis)]
    for i, row in enumerate(rows):
        parts.append(_row(row, TOP + ROW * (i + 0.5), x))
    return (
        f'<figure class="chart forest"><svg viewBox="0 0 {WIDTH} {base + BOTTOM}" role="img" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg></figure>'
    )


def _axis(ticks: Sequence[float], x: Callable[[float], float], base: float, title: str) -> str:
    parts = []
    for tick in ticks:
        kind = "axis" if tick == 0 else "grid"
        parts.append(f'<line class="{kind}" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{TOP}" y2="{base}"/>')
        parts.append(f'<text x="{x(tick):.1f}" y="{base + 16}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text x="{(LEFT + RIGHT) / 2}" y="{base + 38}" text-anchor="middle">{escape(title)}</text>')
    return "".join(parts)


def _row(row: ForestRow, y: float, x: Callable[[float], float]) -> str:
    if row.mark is None:
        return f'<text class="heading" x="8" y="{y + 4:.1f}">{escape(row.name)}</text>'
    parts = [f'<text class="name" x="{LEFT - 4}" y="{y + 4:.1f}" text-anchor="end">{escape(row.name)}</text>']
    if row.mean is not None:
        whisker = ""
        if row.low is not None and row.high is not None:
            low, high = x(row.low), x(row.high)
            ends = f"M{low:.1f} {y - 4:.1f}v8M{high:.1f} {y - 4:.1f}v8"
            whisker = f'<path class="whisker" d="M{low:.1f} {y:.1f}H{high:.1f}{ends}"/>'
        drawn = whisker + marker(x(row.mean), y, row.mark, row.title)
        parts.append(f'<g class="{color_class(row.mark)}">{tooltip(row.title)}{drawn}</g>')
    kind = f" {row.kind}" if row.kind else ""
    parts.append(
        f'<text class="verdict" x="{RIGHT + 8}" y="{y + 4:.1f}"><tspan class="word{kind}">{escape(row.verdict)}</tspan>'
        f' <tspan class="value">{escape(row.value)}</tspan></text>'
    )
    return "".join(parts)
