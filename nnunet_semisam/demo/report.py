"""The demo's outcome: a table of Dice values, and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nnunet_semisam.io.json_files import read_object

CLASSES = {1: "RV", 2: "MYO", 3: "LV"}
COLORS = ((0, 0, 0, 0), (0.2, 0.5, 1, 0.5), (0.2, 0.9, 0.3, 0.5), (1, 0.3, 0.2, 0.5))  # of labels 0 to 3, RGBA


def read_dice(summary: Path) -> dict[str, float]:
    """Return the mean Dice per class, and of all classes, of a summary.json that nnU-Net's evaluation wrote."""
    means = read_object(summary, "Run nnUNetv2_evaluate_simple again.")["mean"]
    dice = {name: float(means[str(label)]["Dice"]) for label, name in CLASSES.items()}
    return {**dice, "mean": float(np.mean(list(dice.values())))}


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Return a table, a line per trainer, Dice in percent.

    Args:
        rows: Trainer -> class -> Dice in [0, 1].
    """
    width = max(len(name) for name in ("Dice in %", *rows))
    columns = [*CLASSES.values(), "mean"]
    lines = [f"{'Dice in %':<{width}}" + "".join(f"{name:>8}" for name in columns)]
    lines += [
        f"{trainer:<{width}}" + "".join(f"{100 * dice[name]:8.1f}" for name in columns)
        for trainer, dice in rows.items()
    ]
    return "\n".join(lines)


def write_pictures(images: Path, masks: Mapping[str, Path], target: Path, most: int = 4) -> list[Path]:
    """Draw the middle slice of some cases, once for each source of masks.

    Args:
        images: Folder with ``CASE_0000.nii.gz``.
        masks: Title -> folder with ``CASE.nii.gz``; labels 0 to 3.
        target: Folder for ``CASE.png``; made if it is missing.
        most: Largest number of cases.

    Returns:
        The pictures.
    """
    target.mkdir(parents=True, exist_ok=True)
    pictures = []
    for path in sorted(images.glob("*_0000.nii.gz"))[:most]:
        case = path.name.removesuffix("_0000.nii.gz")
        volumes = {title: _read(folder / f"{case}.nii.gz") for title, folder in masks.items()}
        pictures.append(_draw_case(case, _read(path), volumes, target / f"{case}.png"))
    return pictures


def _read(path: Path) -> np.ndarray:
    """Return a volume, ``(Z, Y, X)``."""
    import SimpleITK

    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))


def _draw_case(case: str, image: np.ndarray, masks: Mapping[str, np.ndarray], path: Path) -> Path:
    """Write one picture: the middle slice of ``image`` ``(Z, Y, X)``, alone and under each of the ``masks``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure  # not pyplot: no window system is asked for, no state is left

    middle = len(image) // 2
    figure = Figure(figsize=(3 * (1 + len(masks)), 3.3), layout="constrained")
    FigureCanvasAgg(figure)
    panels = [(f"{case}, slice {middle}", None), *masks.items()]
    for axis, (title, mask) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        axis.imshow(image[middle], cmap="gray")
        if mask is not None:
            axis.imshow(np.asarray(COLORS)[mask[middle]])
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    figure.savefig(path, dpi=100)
    return path
