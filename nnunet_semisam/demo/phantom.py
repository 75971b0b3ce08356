"""Invented short-axis heart stacks in the folder layout of the official ACDC download. No patient is in them.

Shapes in this file: ``Z`` slices from base to apex, ``Y`` and ``X`` pixels of a slice; arrays are in that axis order.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

RV, MYO, LV = 1, 2, 3  # ACDC's labels
SHAPE = (8, 96, 96)
SPACING_MM = (10.0, 1.5, 1.5)  # ACDC's usual short-axis spacing
FRAMES = {"ED": 1, "ES": 9}
# Patients of the field's split (nnunet_semisam.dataset_conversion), so that `--split ssl4mis --labeled 3` applies.
LABELED = ("patient099", "patient038", "patient050")
UNLABELED = ("patient100", "patient058", "patient021", "patient049", "patient020")
VALIDATION = ("patient028", "patient085")
TEST = ("patient011", "patient013")


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
        """Draw a patient; contrast, noise and shading vary as between scanners."""
        blood = rng.uniform(0.65, 0.95)
        return cls(
            center_px=(48 + rng.uniform(-8, 8), 52 + rng.uniform(-8, 8)),
            radius_px=rng.uniform(15, 21),
            wall=rng.uniform(0.28, 0.4),
            squash=rng.uniform(0.85, 1.15),
            rv_angle=np.pi + rng.uniform(-0.5, 0.5),
            levels=(0.05, rng.uniform(0.25, 0.5), blood * rng.uniform(0.85, 1.1), rng.uniform(0.2, 0.4), blood),
            noise=rng.uniform(0.03, 0.1),
            bias=rng.uniform(0.1, 0.6),
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
    organs = ndimage.gaussian_filter(rng.standard_normal(SHAPE), (1, 7, 7))
    image = image * (1 + 0.6 * organs / np.abs(organs).max())
    for label, level in ((RV, rv), (MYO, myo), (LV, lv)):
        image[labels == label] = level
    texture = ndimage.gaussian_filter(rng.standard_normal(SHAPE), (0, 1.5, 1.5))
    shading = ndimage.gaussian_filter(rng.standard_normal(SHAPE), (2, 25, 25))
    image = image * (1 + 0.15 * texture / np.abs(texture).max()) * (1 + heart.bias * shading / np.abs(shading).max())
    image = ndimage.gaussian_filter(image, (0, 0.7, 0.7)) + heart.noise * rng.standard_normal(SHAPE)
    low, high = image.min(), image.max()
    return np.round((image - low) / (high - low) * 1023).astype(np.int16)


def write_patients(folder: Path, seed: int = 0) -> list[str]:
    """Write twelve invented patients, two frames each, as ``folder/training/patientXXX``.

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
