"""The demo's outcome: a table of Dice values, in words what it is worth, and one picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nnunet_semisam.figures import class_color, figure_style, new_figure, save_figure
from nnunet_semisam.io.json_files import read_object

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CLASSES = {1: "RV", 2: "MYO", 3: "LV"}


@dataclass(frozen=True)
class Scores:
    """Dice of one model on the held-out cases, in [0, 1].

    Attributes:
        by_class: Mean over cases, by the name of the class.
        by_case: Mean over classes, by the name of the case.
    """

    by_class: Mapping[str, float]
    by_case: Mapping[str, float]

    @property
    def mean(self) -> float:
        """Return the mean over classes."""
        return float(np.mean(list(self.by_class.values())))


def read_scores(summary: Path) -> Scores:
    """Return what nnU-Net's evaluation wrote to a summary.json; a class that is nowhere in a case does not count."""
    content = read_object(summary, "Run nnUNetv2_evaluate_simple again.")
    by_class = {name: float(content["mean"][str(label)]["Dice"]) for label, name in CLASSES.items()}
    by_case = {}
    for case in content["metric_per_case"]:
        name = Path(case["prediction_file"]).name.removesuffix(".nii.gz")
        by_case[name] = float(np.nanmean([case["metrics"][str(label)]["Dice"] for label in CLASSES]))
    return Scores(by_class, by_case)


def table(rows: Mapping[str, Scores]) -> str:
    """Return a table, a line per model, Dice in percent."""
    width = max(len(name) for name in ("Dice in %", *rows))
    lines = [f"{'Dice in %':<{width}}" + "".join(f"{name:>8}" for name in [*CLASSES.values(), "mean"])]
    for model, scores in rows.items():
        numbers = [*(scores.by_class[name] for name in CLASSES.values()), scores.mean]
        lines.append(f"{model:<{width}}" + "".join(f"{100 * number:8.1f}" for number in numbers))
    return "\n".join(lines)


def verdict(baseline: Scores, ours: Scores) -> str:
    """Return in words how two models compare, case by case.

    Example:
        >>> few = Scores({"RV": 0.5}, {"a": 0.5, "b": 0.5})
        >>> verdict(few, Scores({"RV": 0.6}, {"a": 0.8, "b": 0.4}))
        'With unlabeled cases: +10.0 Dice on average, higher in 1 of 2 cases.'
    """
    differences = [ours.by_case[case] - dice for case, dice in baseline.by_case.items()]
    higher = sum(difference > 0 for difference in differences)
    return (
        f"With unlabeled cases: {100 * (ours.mean - baseline.mean):+.1f} Dice on average, higher in {higher} of "
        f"{len(differences)} cases."
    )


def telling_cases(baseline: Scores, ours: Scores) -> list[str]:
    """Return the cases with the lowest, the median and the highest difference, without repetition.

    Example:
        >>> zero = Scores({}, {"a": 0.0, "b": 0.0, "c": 0.0, "d": 0.0})
        >>> telling_cases(zero, Scores({}, {"a": 0.4, "b": 0.1, "c": 0.3, "d": 0.2}))
        ['b', 'c', 'a']
    """
    order = sorted(baseline.by_case, key=lambda case: (ours.by_case[case] - baseline.by_case[case], case))
    return list(dict.fromkeys((order[0], order[len(order) // 2], order[-1])))


def write_picture(
    images: Path, masks: Mapping[str, Path], scores: Mapping[str, Scores], cases: list[str], target: Path
) -> None:
    """Draw the middle slice of some cases, a row each, once for each source of masks.

    Args:
        images: Folder with ``CASE_0000.nii.gz``.
        masks: Title -> folder with ``CASE.nii.gz``; labels 0 to 3.
        scores: Title -> Dice; of sources that have one.
        cases: The cases to show.
        target: The file; its folder is made.
    """
    with figure_style():
        columns = 1 + len(masks)
        figure = new_figure(2.6 * columns, 2.75 * len(cases) + 0.3)
        for row, case in zip(figure.subplots(len(cases), columns, squeeze=False), cases, strict=True):
            image = _middle(images / f"{case}_0000.nii.gz")
            for axis in row:
                axis.imshow(image, cmap="gray")
                axis.set_axis_off()
            row[0].set_title(case, fontsize=9)
            for axis, (title, folder) in zip(row[1:], masks.items(), strict=True):
                _overlay(axis, _middle(folder / f"{case}.nii.gz"))
                dice = f"\nDice {100 * scores[title].by_case[case]:.0f} %" if title in scores else ""
                axis.set_title(f"{title}{dice}", fontsize=9)
        save_figure(figure, target)


def _overlay(axis: Axes, mask: np.ndarray) -> None:
    for f, label in enumerate(CLASSES):
        if (mask == label).any() and not (mask == label).all():
            layer = (mask == label).astype(float)
            axis.contourf(layer, levels=[0.5, 1.5], colors=[class_color(f)], alpha=0.45)
            axis.contour(layer, levels=[0.5], colors=[class_color(f)], linewidths=1.2)


def _middle(path: Path) -> np.ndarray:
    """Return the middle slice of a volume, ``(Y, X)``."""
    import SimpleITK

    volume = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    return volume[len(volume) // 2]
