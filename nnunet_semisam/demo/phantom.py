"""Invented short-axis heart stacks in the folder layout of the official ACDC download. No patient is in them.

Shapes in this file: ``Z`` slices from base to apex, ``Y`` and ``X`` pixels of a slice; arrays are in that axis order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

RV, MYO, LV = 1, 2, 3  # ACDC's labels
SHAPE = (6, 64, 64)
SPACING_MM = (10.0, 2.25, 2.25)  # coarse, so that a training takes minutes
ORGANS = 3  # beside the heart
FRAMES = {"ED": 1, "ES": 9}
# Patients of the field's split (nnunet_semisam.dataset_conversion), so that `--split ssl4mis --labeled 1` applies.
LABELED = ("patient099",)
UNLABELED = tuple(f"patient{number:03d}" for number in (38, 50, 100, 58, 21, 49, 20, 72, 40, 60, 89, 4, 56, 98, 96, 31))
VALIDATION = ("patient028",)
TEST = ("patient011", "patient013", "patient084", "patient033", "patient093", "patient022")


@dataclass(frozen=True)
class Heart:
    """Shape and scanner of one invented patient; both frames share them.

    Attributes:
        center_px: Middle of the left ventricle, ``(y, x)``.
        radius_px: Outer radius of the myocardium at the base, end-diastole.
        wall: Thickness of the wall as a share of ``radius_px``, end-diastole.
        squash: Ratio of the ventricle's two axes.
        rv_angle: Direction of the right ventricle seen from the left one, in radians.
        levels: Mean intensity of air, body, RV blood, myocardium and LV blood.
        noise: Standard deviation of the noise.
        bias: Strength of the coil's shading.
    """

    center_px: tuple[float, float]
    radius_px: float
    wall: float
    squash: float
    rv_angle: float
    levels: tuple[float, float, float, float, float]
    noise: float
    bias: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Heart:
        """Draw a patient; place, size and shape vary, and contrast, noise and shading as between scanners."""
        blood = rng.uniform(0.7, 0.95)
        return cls(
            center_px=(32 + rng.uniform(-7, 7), 34 + rng.uniform(-7, 7)),
            radius_px=rng.uniform(9, 14),
            wall=rng.uniform(0.28, 0.4),
            squash=rng.uniform(0.85, 1.18),
            rv_angle=np.pi + rng.uniform(-0.7, 0.7),
            levels=(0.05, rng.uniform(0.3, 0.5), blood * rng.uniform(0.6, 0.85), rng.uniform(0.12, 0.28), blood),
            noise=rng.uniform(0.02, 0.07),
            bias=rng.uniform(0.1, 0.5),
        )


def draw_labels(heart: Heart, systole: bool) -> np.ndarray:
    """Return the label map of one frame.

    Args:
        heart: The patient.
        systole: End-systole has a smaller cavity and a thicker wall than end-diastole.

    Returns:
        ``(Z, Y, X)``, uint8: 0 background, 1 right ventricle, 2 myocardium, 3 left ventricle.
    """
    depth = np.linspace(0, 1, SHAPE[0])[:, None, None]
    outer = heart.radius_px * np.sqrt(1 - 0.6 * depth**2) * (0.92 if systole else 1.0)
    inner = outer * (1 - heart.wall * (1.5 if systole else 1.0))
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]].astype(float)
    dy = (y - heart.center_px[0])[None]
    dx = (x - heart.center_px[1])[None]
    distance = np.hypot(dy * heart.squash, dx / heart.squash)
    along = dy * np.sin(heart.rv_angle) + dx * np.cos(heart.rv_angle) - outer * 0.9
    across = dy * np.cos(heart.rv_angle) - dx * np.sin(heart.rv_angle)
    size = outer * (0.75 if systole else 0.95)
    right = (along / (size * 0.95)) ** 2 + (across / (size * 1.25)) ** 2 < 1
    labels = np.zeros(SHAPE, np.uint8)
    labels[right & (depth < 0.9)] = RV  # the right ventricle ends above the apex
    labels[distance < outer] = MYO
    labels[distance < inner] = LV
    return labels


def draw_image(heart: Heart, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return an image of a label map: body and air around it, texture, shading, blur and noise.

    Args:
        heart: The patient.
        labels: ``(Z, Y, X)``, as :func:`draw_labels` returns them.
        rng: Source of texture and noise.

    Returns:
        ``(Z, Y, X)``, int16, in 0..1023.
    """
    air, body, rv, myo, lv = heart.levels
    y, x = np.mgrid[-1 : 1 : SHAPE[1] * 1j, -1 : 1 : SHAPE[2] * 1j]
    image = np.where((y / 0.8) ** 2 + (x / 0.95) ** 2 < 1, body, air)[None].repeat(SHAPE[0], axis=0)
    organs = ndimage.gaussian_filter(rng.standard_normal(SHAPE), (1, 5, 5))
    image = image * (1 + 0.6 * organs / np.abs(organs).max())
    for organ, level in other_organs(heart, rng):
        image[organ & (labels == 0)] = level
    for label, level in ((RV, rv), (MYO, myo), (LV, lv)):
        image[labels == label] = level
    texture = ndimage.gaussian_filter(rng.standard_normal(SHAPE), (0, 1.5, 1.5))
    shading = ndimage.gaussian_filter(rng.standard_normal(SHAPE), (2, 17, 17))
    image = image * (1 + 0.15 * texture / np.abs(texture).max()) * (1 + heart.bias * shading / np.abs(shading).max())
    image = ndimage.gaussian_filter(image, (0, 0.7, 0.7)) + heart.noise * rng.standard_normal(SHAPE)
    low, high = image.min(), image.max()
    return np.round((image - low) / (high - low) * 1023).astype(np.int16)


def other_organs(heart: Heart, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, float]]:
    """Yield where further organs are, and how bright: as blood or as air, anywhere in the body.

    They make labels scarce: what tells a ventricle from a vessel, one patient does not show.

    Args:
        heart: The patient.
        rng: Source of their places.

    Yields:
        ``(Y, X)``, bool, and the intensity.
    """
    air, _, rv, _, lv = heart.levels
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]].astype(float)
    for _ in range(ORGANS):
        center_y, center_x = rng.uniform(6, 58, 2)
        radius_y, radius_x = rng.uniform(3, 8, 2)
        level = rng.choice([rv, lv, air]) * rng.uniform(0.85, 1.1)
        yield np.hypot((y - center_y) / radius_y, (x - center_x) / radius_x) < 1, level


def write_patients(folder: Path, seed: int = 0) -> list[str]:
    """Write the invented patients, two frames each, as ``folder/training/patientXXX``.

    Args:
        folder: Becomes the counterpart of the official folder ``database``.
        seed: Same seed, same patients.

    Returns:
        The patients' names.
    """
    names = [*LABELED, *UNLABELED, *VALIDATION, *TEST]
    for number, name in enumerate(names):
        rng = np.random.default_rng([seed, number])
        heart = Heart.draw(rng)
        patient = folder / "training" / name
        patient.mkdir(parents=True)
        for phase, frame in FRAMES.items():
            labels = draw_labels(heart, systole=phase == "ES")
            _write(patient / f"{name}_frame{frame:02d}.nii.gz", draw_image(heart, labels, rng))
            _write(patient / f"{name}_frame{frame:02d}_gt.nii.gz", labels)
        (patient / "Info.cfg").write_text("".join(f"{phase}: {frame}\n" for phase, frame in FRAMES.items()))
    return names


def _write(path: Path, array: np.ndarray) -> None:
    import SimpleITK

    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing(SPACING_MM[::-1])
    SimpleITK.WriteImage(image, str(path))
