"""Is the confidence of pseudo-labels the share of voxels that are right? Measured on cases whose labels are hidden.

Makes one round with a trained model (calibration on labeled cases, prediction, SAM, fusion) for some cases of its pool,
and compares labels and confidences with the hidden labels, which no training reads. Call it as
``python -m benchmarks.label_efficiency.reliability FOLD --cases 10 [--settings FILE ...] [--out PICTURE]`` with
nnU-Net's three variables set; ``FOLD`` is a folder ``fold_N`` in ``nnUNet_results``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import ndimage

from nnunet_semisam.figures import BASELINE, class_color, figure_style, new_figure, save_figure

BINS = 10
NEAR_MM = 10.0  # background this near to what is, or is called, foreground decides; the rest is easy
POSITIONS = ("in the first or last slice of the class", "between slices that have it", "in slices that have it")


@dataclass
class Bins:
    """Voxels by confidence: how many there are, how many are right, and the sum of their confidences."""

    voxels: np.ndarray = field(default_factory=lambda: np.zeros(BINS, dtype=np.int64))
    right: np.ndarray = field(default_factory=lambda: np.zeros(BINS, dtype=np.int64))
    confidence: np.ndarray = field(default_factory=lambda: np.zeros(BINS))

    def add(self, confidence: np.ndarray, right: np.ndarray) -> None:
        """Count voxels with a confidence in [0, 1], and whether they are right, bool."""
        index = np.minimum((confidence * BINS).astype(int), BINS - 1)
        self.voxels += np.bincount(index, minlength=BINS)
        self.right += np.bincount(index[right], minlength=BINS)
        self.confidence += np.bincount(index, weights=confidence, minlength=BINS)

    def share_right(self) -> list[float | None]:
        """Return the share of right voxels of each bin; ``None`` where there are none."""
        return [int(r) / int(n) if n else None for r, n in zip(self.right, self.voxels, strict=True)]

    def calibration_error(self) -> float | None:
        """Return the expected calibration error: mean difference of confidence and share right, by voxels."""
        total = self.voxels.sum()
        return float(np.abs(self.confidence - self.right).sum() / total) if total else None


@dataclass
class Reliability:
    """What is measured over all cases.

    Attributes:
        names: Names of the foreground classes.
        threshold: Confidence from which a voxel is learned.
        bins: By what the label says: ``background``, ``foreground``, and each class.
        true_foreground: Voxels whose hidden label is foreground.
        learned_right: Those of them that are learned with their class.
        learned_as_background: Those that are learned as background.
        missed: By position of the slice: true voxels of a class that the label calls background, and those of them with
            a confidence above the threshold.
        overlaps: Of each class, over learned voxels: both, label, truth.
    """

    names: Sequence[str]
    threshold: float
    bins: dict[str, Bins] = field(default_factory=dict)
    true_foreground: int = 0
    learned_right: int = 0
    learned_as_background: int = 0
    missed: dict[str, list[int]] = field(default_factory=lambda: {position: [0, 0] for position in POSITIONS})
    overlaps: dict[int, list[int]] = field(default_factory=dict)

    def add(self, label: np.ndarray, confidence: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> None:
        """Add a case: label, confidence and hidden label, ``(Z, Y, X)`` each, and its voxel size in mm."""
        right, learned = label == truth, confidence >= self.threshold
        away = ndimage.distance_transform_edt((label == 0) & (truth == 0), sampling=spacing)
        for name, mask in (("foreground", label > 0), ("background", (label == 0) & (away <= NEAR_MM))):
            self.bins.setdefault(name, Bins()).add(confidence[mask], right[mask])
        shown = truth > 0
        self.true_foreground += int(shown.sum())
        self.learned_right += int((shown & learned & right).sum())
        self.learned_as_background += int((shown & learned & (label == 0)).sum())
        for k, name in enumerate(self.names, start=1):
            mask, real = label == k, truth == k
            self.bins.setdefault(f"class {name}", Bins()).add(confidence[mask], right[mask])
            sums = self.overlaps.setdefault(k, [0, 0, 0])
            for i, part in enumerate((mask & real, mask, real)):
                sums[i] += int((part & learned).sum())
            self._count_missed(mask, real & (label == 0), learned)

    def _count_missed(self, mask: np.ndarray, missed: np.ndarray, learned: np.ndarray) -> None:
        slices = mask.any(axis=(1, 2))
        found = np.flatnonzero(slices)
        for z in np.flatnonzero(missed.any(axis=(1, 2))):
            inside = len(found) and found[0] < z < found[-1]
            position = POSITIONS[2] if slices[z] else POSITIONS[1] if inside else POSITIONS[0]
            if slices[z] and z in (found[0], found[-1]):
                position = POSITIONS[0]
            self.missed[position][0] += int(missed[z].sum())
            self.missed[position][1] += int((missed[z] & learned[z]).sum())

    def figures(self) -> dict[str, float | None]:
        """Return what one looks at first."""
        foreground, background = self.bins["foreground"], self.bins["background"]
        dice = [2 * both / (ours + real) for both, ours, real in self.overlaps.values() if ours + real]
        return {
            "calibration error, foreground": foreground.calibration_error(),
            "calibration error, background nearby": background.calibration_error(),
            "foreground learned": _share(foreground, self.threshold)[0],
            "of it right": _share(foreground, self.threshold)[1],
            "Dice of what is learned": float(np.mean(dice)) if dice else None,
            "true foreground learned as such": self.learned_right / max(1, self.true_foreground),
            "true foreground learned as background": self.learned_as_background / max(1, self.true_foreground),
        }


def _share(bins: Bins, threshold: float) -> tuple[float | None, float | None]:
    """Return the share of voxels at or above a threshold that is a multiple of 0.1, and the share of them right."""
    first = round(threshold * BINS)
    total, learned = bins.voxels.sum(), bins.voxels[first:].sum()
    right = bins.right[first:].sum() / learned if learned else None
    return (float(learned / total) if total else None), (None if right is None else float(right))


def report(found: Reliability) -> Iterable[str]:
    """Yield the lines of the tables, in Markdown."""
    figures = found.figures()
    yield "| " + " | ".join(figures) + " |"
    yield "|" + "---|" * len(figures)
    yield "| " + " | ".join(_text(value) for value in figures.values()) + " |"
    yield ""
    edges = [f"{i / BINS:.1f} to {(i + 1) / BINS:.1f}" for i in range(BINS)]
    yield "| share right (voxels) by confidence | " + " | ".join(edges) + " |"
    yield "|" + "---|" * (BINS + 1)
    for name, bins in found.bins.items():
        cells = [f"{_text(share)} ({n})" for share, n in zip(bins.share_right(), bins.voxels, strict=True)]
        yield f"| {name} | " + " | ".join(cells) + " |"
    yield ""
    for position, (voxels, learned) in found.missed.items():
        share = _text(learned / voxels if voxels else None)
        yield f"- missed {position}: {voxels} voxels, {share} learned as background"


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def draw(found: dict[str, Reliability], path: Path) -> None:
    """Write a picture: share right by confidence, foreground and nearby background, a line for each entry."""
    middle = (np.arange(BINS) + 0.5) / BINS
    with figure_style():
        figure = new_figure(8, 3.6)
        axes = figure.subplots(1, 2, sharey=True)
        for ax, kind in zip(axes, ("foreground", "background"), strict=True):
            ax.plot([0, 1], [0, 1], color=BASELINE, linewidth=1)
            for f, (name, one) in enumerate(found.items()):
                shares = [np.nan if share is None else share for share in one.bins[kind].share_right()]
                ax.plot(middle, shares, marker="o", label=name, color=class_color(f))
            title = "foreground" if kind == "foreground" else f"background within {NEAR_MM:g} mm"
            ax.set(xlabel="confidence", title=title)
        axes[0].set_ylabel("share of voxels that are right")
        axes[0].legend()
        save_figure(figure, path)


def measure(fold: Path, checkpoint: str, settings: dict, cases: int) -> Reliability:
    """Make a round of a few cases, and compare it with their hidden labels."""
    from benchmarks.label_efficiency.stage_of_model import ModelStage

    model = ModelStage(fold, checkpoint, settings)
    stage = model.session.stage
    pool = model.some_cases(cases)
    model.calibrate(pool[:2])
    found = Reliability(model.labels.names, stage.sam.confidence_threshold)
    for case in pool:
        made = stage.pipeline.pseudo_label(case)
        fused, truth = made.outcome.fused, model.hidden_label(case)
        found.add(fused.label, fused.confidence, truth, stage.pipeline.spacing(case, truth.shape))
        print(case, {name: round(value, 1) for name, value in made.outcome.seconds.items()}, file=sys.stderr)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print tables, and draw."""
    from benchmarks.label_efficiency.stage_of_model import fold_parser, named_settings

    parser = fold_parser(__doc__, cases=10)
    parser.add_argument("--out", type=Path, help="the picture to write, a line for each settings file")
    args = parser.parse_args(argv)
    found = {}
    for name, settings in named_settings(args.settings).items():
        found[name] = measure(args.fold, args.checkpoint, settings, args.cases)
        print(f"### {name}\n")
        print("\n".join(report(found[name])), flush=True)
    if args.out is not None:
        draw(found, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
