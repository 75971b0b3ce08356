"""How numbers are written: the same way on the page, in markdown and in figures."""

from __future__ import annotations

import math
from collections.abc import Mapping

from nnunet_semisam.benchmark.records import Interval

METRIC_NAMES = {
    "dice": "Dice",
    "hd95": "HD95",
    "assd": "ASSD",
    "volume_error": "volume error",
    "volume_bias": "volume bias",
}
FACTORS = {"dice": 100.0}  # Dice is written in percent
NONE = "\u2013"


def unit_text(unit: str) -> str:
    """Return how a unit of ``results.csv`` is written."""
    if unit == "1":
        return "%"
    return unit.replace("2", "\u00b2")


def title(metric: str, units: Mapping[str, str]) -> str:
    """Return the name of a metric with its unit; of a plane, the volume is an area."""
    unit = units[metric]
    name = METRIC_NAMES[metric]
    if unit.endswith("2"):
        name = name.replace("volume", "area")
    return f"{name}, {unit_text(unit)}"


def number(value: float | None, metric: str = "", sign: str = "") -> str:
    """Return a measured number: Dice in percent, one decimal; small volumes with more.

    Args:
        value: The number; ``None`` and NaN are written as a dash.
        metric: For example ``dice``; empty for none.
        sign: ``+`` to write the sign of positive numbers, too.
    """
    if value is None or math.isnan(value):
        return NONE
    value *= FACTORS.get(metric, 1.0)
    decimals = 1 if metric == "dice" or abs(value) >= 10 else 2
    if value and abs(value) < 0.05:
        decimals = 2  # of an interval's end it must be seen on which side of 0 it lies
    return f"{value:{sign}.{decimals}f}"


def interval(content: Interval | None, metric: str, sign: str = "") -> str:
    """Return ``mean [low, high]``, or what there is of it."""
    if content is None or content.mean is None:
        return NONE
    mean = number(content.mean, metric, sign)
    if content.low is None:
        return mean
    return f"{mean} [{number(content.low, metric, sign)}, {number(content.high, metric, sign)}]"


def p_value(p: float | None) -> str:
    """Return a p value with two digits."""
    if p is None:
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


def count(how_many: int, noun: str) -> str:
    """Return ``1 case`` or ``2 cases``."""
    return f"{how_many} {noun}" if how_many == 1 else f"{how_many} {noun}s"


def integer(value: int | None) -> str:
    """Return a whole number that may be missing."""
    return NONE if value is None else str(value)


def gigabytes(value: int | None) -> str:
    """Return bytes in GB."""
    return NONE if value is None else f"{value / 1e9:.2f}"


def quantity(value: float | None, decimals: int = 2) -> str:
    """Return any number that may be missing."""
    return NONE if value is None else f"{value:.{decimals}f}"
