"""Make a generalist's probabilities softer or sharper, as much as was measured on labeled cases.

Source: Guo et al., On Calibration of Modern Neural Networks, https://arxiv.org/abs/1706.04599: one number divides the
logits; what is inside a mask stays inside.

Shapes in this file: ``F`` foreground classes or regions, ``*S`` spatial axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nnunet_semisam.generalists.base import CasePrediction

LEAST = 1e-6  # probabilities are kept this far from 0 and 1: their logits are finite


def tempered_probs(probs: np.ndarray, temperature: float) -> np.ndarray:
    """Return probabilities whose logits are divided by a temperature, same shape, float32.

    Example:
        >>> tempered_probs(np.array([0.5, 0.9]), 2.0).round(3).tolist()
        [0.5, 0.75]
    """
    if temperature == 1:
        return probs
    inside = np.clip(probs.astype(np.float64), LEAST, 1 - LEAST)
    ratio = ((1 - inside) / inside) ** (1 / temperature)
    return (1 / (1 + ratio)).astype(np.float32)


def tempered(prediction: CasePrediction, temperatures: Sequence[float]) -> CasePrediction:
    """Return a prediction with the temperature of each channel, where it was prompted.

    Args:
        prediction: Arrays ``(F, *S)``.
        temperatures: ``F`` numbers; empty: 1 for all, and the prediction itself is returned.
    """
    if all(temperature == 1 for temperature in temperatures):
        return prediction
    probs = prediction.probs.copy()
    for f, temperature in enumerate(temperatures):
        there = prediction.predicted[f]
        probs[f][there] = tempered_probs(probs[f][there], temperature)
    return replace(prediction, probs=probs)
