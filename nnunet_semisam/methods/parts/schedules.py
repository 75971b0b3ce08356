"""Weights of unlabeled terms as pure functions of the progress, the fraction of the training that is done."""

from __future__ import annotations

import math


def rampup(progress: float, start: float, length: float, exponent: float = 5.0) -> float:
    """Return 0 before ``start``, then rise from exp(-exponent) to 1 over ``length``.

    Args:
        progress: Fraction of the training done, in [0, 1].
        start: Fraction at which the term begins.
        length: Length of the rise, as a fraction of the training; 0 is a step.
        exponent: How steep the rise is: exp(-exponent (1 - t)^2), ``t`` in [0, 1] along the ramp.

    Source:
        Laine & Aila, ICLR 2017, section 2.1, https://arxiv.org/abs/1610.02242, with 5.
    """
    if progress < start:
        return 0.0
    if progress >= start + length:
        return 1.0
    return math.exp(-exponent * (1.0 - (progress - start) / length) ** 2)


def decay(progress: float, start: float, rate: float) -> float:
    """Return 0 before ``start``, then fall from 1 to exp(-rate) at the end of the training.

    Args:
        progress: Fraction of the training done, in [0, 1].
        start: Fraction at which the term begins.
        rate: Exponent at the end; 0 keeps the term at 1.

    Source:
        SemiSAM, https://arxiv.org/abs/2312.06316: the SAM term runs through the ramp backwards, so that it starts at
        its full weight and ends at exp(-5) of it. Counted from ``start``, where the teacher is ready to prompt.
    """
    if progress < start:
        return 0.0
    done = (progress - start) / max(1.0 - start, 1e-12)
    return math.exp(-rate * min(done, 1.0) ** 2)
