"""Line charts as inline SVG. Colours come from the page's style sheet, so that they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from nnunet_semisam.report.drawing.html_parts import escape

WIDTH = 640
HEIGHT = 320
LEFT = 52  # margins around the drawing
RIGHT = 14
TOP = 12
BOTTOM = 42
COLORS = 8  # of the style sheet
MOST_POINTS = 200  # of a line: more cannot be told apart
LEAST_SPAN = 1e-9  # of an axis, as a share of its numbers: less is lost in rounding
SMALLEST = 1e-30  # of a span


@dataclass(frozen=True)
class Marker:
    """Colour and form of what is drawn: one for each trainer, and others for each class, on the whole page.

    Attributes:
        index: Of the trainer or the class.
        of_class: Whether it is a class, whose colours are those of the viewers.
    """

    index: int
    of_class: bool = False


@dataclass(frozen=True)
class Point:
    """A point of a line; ``low`` and ``high`` are the ends of its interval, ``title`` is shown beside the pointer."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    title: str = ""


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        name: For the legend; empty for none.
        points: In the order of x.
        color: Index of a colour: of a trainer, or of a class.
        dashed: Whether the line is dashed.
        markers: Whether points are marked; the mark's form follows the colour.
        dots: Further values at their x, without a line: single runs for example.
        of_class: Whether the line is one of a class.
    """

    name: str
    points: Sequence[Point]
    color: int
    dashed: bool = False
    markers: bool = False
    dots: Sequence[Point] = field(default=())
    of_class: bool = False

    @property
    def mark(self) -> Marker:
        """Return the colour and form of its points."""
        return Marker(self.color, self.of_class)


@dataclass(frozen=True)
class Axes:
    """Titles and ticks of a chart.

    Attributes:
        title: What the chart shows, for those who hear the page.
        x, y: Titles of the axes.
        x_ticks: Places with a tick on the x axis; empty chooses round numbers.
        log_x: Whether x is logarithmic.
        y_range: Values that the y axis shows at least.
        width, height: In pixels of the drawing.
    """

    title: str
    x: str
    y: str
    x_ticks: Sequence[float] = ()
    log_x: bool = False
    y_range: Sequence[float] = ()
    width: int = WIDTH
    height: int = HEIGHT


def line_chart(lines: Sequence[Line], axes: Axes) -> str:
    """Return a figure with its legend; lines without points are left out."""
    lines = [line for line in lines if line.points or line.dots]
    if not lines:
        return ""
    frame = _Frame(lines, axes)
    content = frame.grid() + "".join(_draw(line, frame) for line in lines)
    legend = "".join(_legend_entry(line) for line in lines if line.name)
    return (
        f'<figure class="chart"><svg viewBox="0 0 {axes.width} {axes.height}" role="img" '
        f'aria-label="{escape(axes.title)}">{content}</svg><ul class="legend">{legend}</ul></figure>'
    )


def round_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round numbers that span a range."""
    span = high - low
    if span <= LEAST_SPAN * max(abs(low), abs(high)) or span < SMALLEST:  # equal, but for the last digits
        span = max(abs(high), abs(low)) if max(abs(high), abs(low)) > SMALLEST else 1.0
    raw = span / most
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [i * step if step < 1e-9 else round(i * step, 12) for i in range(first, last + 1)]


class _Frame:
    """Where values lie on the drawing."""

    def __init__(self, lines: Sequence[Line], axes: Axes) -> None:
        self.axes = axes
        points = [point for line in lines for point in (*line.points, *line.dots)]
        heights = list(axes.y_range)
        for point in points:
            heights += [value for value in (point.y, point.low, point.high) if value is not None]
        self.y_ticks = round_ticks(min(heights), max(heights))

        left = min(point.x for point in points)
        right = max(point.x for point in points)
        self.x_ticks = list(axes.x_ticks)
        if not self.x_ticks:
            self.x_ticks = [tick for tick in round_ticks(left, right) if left <= tick <= right]

        low = self._scale(left)
        high = self._scale(right)
        margin = 0.06 * (high - low) if axes.x_ticks else 0.0
        if margin == 0.0 and low == high:
            margin = 0.5
        self._low = low - margin
        self._high = high + margin

    def _scale(self, x: float) -> float:
        return math.log(x) if self.axes.log_x else x

    def x(self, value: float) -> float:
        share = (self._scale(value) - self._low) / (self._high - self._low)
        return LEFT + (self.axes.width - LEFT - RIGHT) * share

    def y(self, value: float) -> float:
        low = self.y_ticks[0]
        high = self.y_ticks[-1]
        share = (value - low) / (high - low)
        return self.axes.height - BOTTOM - (self.axes.height - TOP - BOTTOM) * share

    def grid(self) -> str:
        width, height = self.axes.width, self.axes.height
        parts = []
        for tick in self.y_ticks:
            y = self.y(tick)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{width - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
        base = height - BOTTOM
        for tick in self.x_ticks:
            x = self.x(tick)
            parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{base}" y2="{base + 4}"/>')
            parts.append(f'<text x="{x:.1f}" y="{base + 17}" text-anchor="middle">{tick:g}</text>')
        parts.append(f'<line class="axis" x1="{LEFT}" x2="{width - RIGHT}" y1="{base}" y2="{base}"/>')
        middle = (LEFT + width - RIGHT) / 2
        parts.append(f'<text x="{middle:.0f}" y="{height - 6}" text-anchor="middle">{escape(self.axes.x)}</text>')
        center = (TOP + base) / 2
        turned = f'transform="translate(12 {center:.0f}) rotate(-90)"'
        parts.append(f'<text {turned} text-anchor="middle">{escape(self.axes.y)}</text>')
        return "".join(parts)


def _draw(line: Line, frame: _Frame) -> str:
    points = _thin(line.points)
    parts = []
    if len(points) > 1:
        path = " ".join(f"{frame.x(point.x):.1f},{frame.y(point.y):.1f}" for point in points)
        parts.append(f'<polyline class="{_line_class(line)}" points="{path}"/>')
    for point in points:
        x = frame.x(point.x)
        if point.low is not None and point.high is not None:
            parts.append(_whisker(x, frame.y(point.low), frame.y(point.high)))
        if line.markers or len(points) == 1:
            parts.append(marker(x, frame.y(point.y), line.mark, point.title))
    for point in line.dots:
        place = f'cx="{frame.x(point.x):.1f}" cy="{frame.y(point.y):.1f}"'
        parts.append(f'<circle class="dot" {place} r="2.5">{tooltip(point.title)}</circle>')
    return f'<g class="{color_class(line.mark)}">{"".join(parts)}</g>'


def _line_class(line: Line) -> str:
    if line.color >= COLORS:  # colours begin again
        return "line dotted"
    return "line dashed" if line.dashed else "line"


def color_class(mark: Marker) -> str:
    """Return the class of the style sheet that gives a trainer or a class its colour."""
    return f"{'c' if mark.of_class else 's'}{mark.index % COLORS}"


def _whisker(x: float, low: float, high: float) -> str:
    """Return the bar of an interval, in pixels of the drawing."""
    bar = f"M{x:.1f} {low:.1f}V{high:.1f}"
    ends = f"M{x - 4:.1f} {low:.1f}h8M{x - 4:.1f} {high:.1f}h8"
    return f'<path class="whisker" d="{bar}{ends}"/>'


def _thin(points: Sequence[Point]) -> Sequence[Point]:
    """Leave points out evenly where there are too many; the last one stays."""
    step = math.ceil(len(points) / MOST_POINTS)
    if step <= 1:
        return points
    return [*points[:-1:step], points[-1]]


def marker(x: float, y: float, mark: Marker, title: str = "") -> str:
    """Return a mark at a place in pixels of the drawing; where colours begin again, forms do not."""
    form = mark.index + mark.index // COLORS
    shapes = (
        f"M{x - 5:.1f} {y:.1f}a5 5 0 1 0 10 0a5 5 0 1 0 -10 0",
        f"M{x - 4.5:.1f} {y - 4.5:.1f}h9v9h-9z",
        f"M{x:.1f} {y - 6:.1f}l5.5 10h-11z",
        f"M{x:.1f} {y - 6:.1f}l6 6l-6 6l-6 -6z",
    )
    return f'<path class="marker" d="{shapes[form % len(shapes)]}">{tooltip(title)}</path>'


def tooltip(text: str) -> str:
    """Return text that is shown beside the pointer."""
    return f"<title>{escape(text)}</title>" if text else ""


def _legend_entry(line: Line) -> str:
    return f'<li><svg class="key" viewBox="0 0 30 12" aria-hidden="true">{_key(line)}</svg>{escape(line.name)}</li>'


def _key(line: Line) -> str:
    """Return how a line looks, for the legend."""
    if line.points:
        content = f'<polyline class="{_line_class(line)}" points="1,6 29,6"/>'
        if line.markers:
            content += marker(15, 6, line.mark)
    else:
        content = '<circle class="dot" cx="15" cy="6" r="3"/>'
    return f'<g class="{color_class(line.mark)}">{content}</g>'
