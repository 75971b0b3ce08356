"""Dice against the clock: what each of several trainings has reached after the same time.

    python benchmarks/wall_clock.py nnU-Net=RESULTS/.../fold_0 SemiSAM=RESULTS/.../fold_0 --picture dice.png

Reads the logs of nnU-Net's output folders: seconds of every epoch (rounds of pseudo-labels and the online validation
included, pauses between an interruption and its resumption not) and the online validation's Dice, the mean over classes
on patches of the validation cases, of the weights that are deployed. It is noisy, so the median over a few epochs is
shown. For Dice of whole volumes at checkpoints, see ``benchmarks/gpu/``; for trainings that are given the same time
from the start, ``nnunet-semisam benchmark --equal time``.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from _measure import table

from nnunet_semisam.errors import UserError
from nnunet_semisam.figures import figure_style, new_figure, save_figure
from nnunet_semisam.io.json_files import write_json
from nnunet_semisam.report.reading.training_logs import read_training

WINDOW = 5  # epochs


@dataclass(frozen=True)
class Curve:
    """One training.

    Attributes:
        seconds: After each epoch, since the beginning, ascending.
        dice: Median online Dice of the last :data:`WINDOW` epochs until then, in [0, 1].
    """

    seconds: Sequence[float]
    dice: Sequence[float]

    def at(self, seconds: float) -> float | None:
        """Return the Dice after some time: that of the last epoch that was over by then; ``None`` before the first."""
        found = [dice for end, dice in zip(self.seconds, self.dice, strict=True) if end <= seconds]
        return found[-1] if found else None

    def first(self, dice: float) -> float | None:
        """Return after how many seconds the training first had this Dice; ``None`` if it never had."""
        return next((end for end, value in zip(self.seconds, self.dice, strict=True) if value >= dice), None)


def read_curve(folder: Path) -> Curve:
    """Return the curve of a training.

    Args:
        folder: nnU-Net's output folder of a fold.

    Raises:
        UserError: If its logs do not tell seconds and Dice.
    """
    record = read_training(folder, folder)
    durations, dice = (dict(record.nnunet.get(name, [])) for name in ("epoch_seconds", "pseudo_dice"))
    epochs = sorted(durations.keys() & dice.keys())
    if not epochs:
        reason = next(iter(record.problems.values()), "there is no log of an epoch that was finished")
        raise UserError(f"{folder} does not tell seconds and Dice of a training: {reason}. Give a folder fold_X.")
    ends = [sum(durations[e] for e in epochs[: i + 1]) for i in range(len(epochs))]
    medians = [statistics.median(dice[e] for e in epochs[max(0, i + 1 - WINDOW) : i + 1]) for i in range(len(epochs))]
    return Curve(ends, medians)


def report(curves: Mapping[str, Curve], rows: int) -> str:
    """Return two tables: Dice after equal times, and seconds until a Dice, as far as all or some got."""
    end = min(curve.seconds[-1] for curve in curves.values())
    times = [end * (i + 1) / rows for i in range(rows)]
    by_time = [[f"{time:.0f}", *(_number(curve.at(time), ".3f") for curve in curves.values())] for time in times]
    best = max(max(curve.dice) for curve in curves.values())
    levels = [best * (i + 1) / rows for i in range(rows)]
    by_dice = [[f"{level:.3f}", *(_number(curve.first(level), ".0f") for curve in curves.values())] for level in levels]
    headers = ["seconds", *(f"Dice, {name}" for name in curves)], ["Dice", *(f"seconds, {name}" for name in curves)]
    return "\n\n".join([table(headers[0], by_time), table(headers[1], by_dice)])


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def draw(curves: Mapping[str, Curve], path: Path) -> None:
    """Draw the curves to a picture."""
    with figure_style():
        figure = new_figure(7, 4)
        axes = figure.subplots()
        for name, curve in curves.items():
            axes.plot([seconds / 60 for seconds in curve.seconds], curve.dice, label=name)
        axes.set_xlabel("minutes of training")
        axes.set_ylabel(f"online Dice, median of {WINDOW} epochs")
        axes.legend()
        save_figure(figure, path, dpi=150)


def main(argv: list[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trainings", nargs="+", metavar="NAME=FOLDER", help="nnU-Net's output folder of a fold")
    parser.add_argument("--rows", type=int, default=10, help="rows of each table (default: %(default)s)")
    parser.add_argument("--picture", type=Path, help="also draw the curves to this file (png)")
    parser.add_argument("--json", type=Path, help="also write the curves to this file")
    args = parser.parse_args(argv)
    pairs = [word.partition("=") for word in args.trainings]
    if not all(folder for _, _, folder in pairs):
        raise SystemExit("Name each training: NAME=FOLDER.")
    try:
        curves = {name: read_curve(Path(folder)) for name, _, folder in pairs}
    except UserError as error:
        raise SystemExit(str(error)) from error
    print(report(curves, args.rows))
    if args.picture is not None:
        draw(curves, args.picture)
    if args.json is not None:
        write_json(args.json, {n: {"seconds": list(c.seconds), "dice": list(c.dice)} for n, c in curves.items()})


if __name__ == "__main__":
    main()
