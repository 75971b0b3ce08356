"""Simulate on labeled cases the error that the specialist makes on cases it has not seen.

A network knows its training cases by heart, so that a generalist could only do harm there. Its probabilities are
therefore warped by a smooth random field, as strongly as it takes for their Dice to fall to what the network reaches on
unseen cases. That imitates borders in the wrong place. It does not imitate parts that are missed altogether or
invented, so that a gain measured on such cases is about borders: an estimate, not a promise.

Shapes in this file: ``K`` output channels of the network, ``*S`` spatial axes.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels.case_outcome import dice
from nnunet_semisam.settings import SettingsBlock, setting, settings_block


@settings_block("generalisation_error", used=lambda settings: settings.run.use_sam)
@dataclass(frozen=True, kw_only=True)
class GeneralisationErrorSettings(SettingsBlock):
    """The random field that warps the specialist's prediction of labeled cases."""

    smoothness: float = setting(
        0.125,
        "Standard deviation of the Gaussian that smooths the field, as a share of the foreground's largest extent.",
        above=0,
    )
    bisections: int = setting(
        8, "Steps of the search for the strength: 8 meet the Dice to 1/256 of its range.", low=1, high=50
    )


def simulate_generalisation_error(
    specialist: np.ndarray,
    label: np.ndarray,
    labels: Labels,
    estimated_dice: float,
    spacing: Sequence[float],
    seed_text: str,
    settings: GeneralisationErrorSettings | None = None,
) -> np.ndarray:
    """Warp the specialist's prediction until its mean foreground Dice is what it reaches on unseen cases.

    Args:
        specialist: Probabilities, ``(K, *S)``.
        label: Label map, ``(*S)``.
        labels: What the channels mean.
        estimated_dice: Mean Dice over foreground classes on unseen cases, in [0, 1].
        spacing: Voxel size along ``*S`` in mm: the warp is as strong in mm along every axis.
        seed_text: Names the random field: same text, same field.
        settings: The block ``generalisation_error``.

    Returns:
        ``(K, *S)``; ``specialist`` itself if it is no better than estimated already, or if there is nothing to warp.
    """
    settings = settings or GeneralisationErrorSettings()
    crop = _foreground_window(label, labels)
    predicted = labels.label_map(labels.foreground(specialist))
    if crop is None or _mean_dice(predicted, label, labels) <= estimated_dice:
        return specialist
    predicted, label = predicted[crop], label[crop]
    field = _unit_field(label.shape, spacing, seed_text, settings.smoothness)
    low, high = 0.0, 0.5 * max(size * mm for size, mm in zip(label.shape, spacing, strict=True))
    for _ in range(settings.bisections):
        middle = (low + high) / 2
        too_good = _mean_dice(_warp(predicted, middle * field, order=0), label, labels) > estimated_dice
        low, high = (middle, high) if too_good else (low, middle)
    warped = specialist.copy()
    for channel in warped:
        channel[crop] = _warp(channel[crop], high * field, order=1)
    return warped


def _foreground_window(label: np.ndarray, labels: Labels) -> tuple[slice, ...] | None:
    """Return the box around all foreground, half as large again on each side; ``None`` without foreground."""
    places = np.argwhere((label > 0) & (label <= max(labels.foreground_labels)))
    if len(places) == 0:
        return None
    first, last = places.min(axis=0), places.max(axis=0) + 1
    margin = (last - first) // 2 + 1
    return tuple(
        slice(max(0, low), min(size, high))
        for low, high, size in zip(first - margin, last + margin, label.shape, strict=True)
    )


def _unit_field(shape: Sequence[int], spacing: Sequence[float], seed_text: str, smoothness: float) -> np.ndarray:
    """Return a smooth random displacement, ``(axes, *S)``, in voxels; its root mean square is 1 mm along each axis."""
    rng = np.random.default_rng(zlib.crc32(seed_text.encode()))
    # the window is twice as large as the foreground
    extent = smoothness * max(size * mm for size, mm in zip(shape, spacing, strict=True)) / 2
    field = []
    for mm in spacing:
        noise = ndimage.gaussian_filter(rng.standard_normal(shape), [extent / each for each in spacing])
        field.append(noise / max(1e-12, float(np.sqrt(np.mean(noise**2)))) / mm)
    return np.stack(field)


def _warp(array: np.ndarray, displacement: np.ndarray, order: int) -> np.ndarray:
    grid = np.indices(array.shape) + displacement
    return ndimage.map_coordinates(array, grid, order=order, mode="nearest", prefilter=False)


def _mean_dice(predicted: np.ndarray, label: np.ndarray, labels: Labels) -> float:
    """Return the mean Dice over the classes that ``label`` shows; voxels of the ignore label do not count."""
    valid = label <= max(labels.foreground_labels)
    found = []
    for f in range(labels.channels):
        real = labels.members(label, f)
        if real.any():
            found.append(dice(labels.members(predicted, f) & valid, real))
    return float(np.mean(found)) if found else 0.0
