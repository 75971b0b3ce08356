"""Our own log: raw and weighted terms of every epoch, as csv and as a picture.

nnU-Net 2.8.1's local logger accepts eight fixed keys only, so the terms of this package get files of their own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from nnunet_semisam.io.atomic import replaced_file
from nnunet_semisam.io.csv_files import write_table

CSV_NAME = "semisam_log.csv"
PICTURE_NAME = "progress_semisam.png"


class TrainingLog:
    """Rows of named numbers, one per epoch."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def add(self, epoch: int, values: Mapping[str, float]) -> None:
        """Add the row of an epoch; a row of the same or a later epoch (an interrupted run) is replaced."""
        self.rows = [row for row in self.rows if row["epoch"] < epoch]
        self.rows.append({"epoch": epoch, **{name: float(value) for name, value in values.items()}})

    def columns(self) -> list[str]:
        """Return all names, in the order of their first appearance."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def write(self, folder: Path) -> None:
        """Write the csv file and the picture to ``folder``."""
        write_table(folder / CSV_NAME, self.columns(), self.rows)
        self._plot(folder / PICTURE_NAME)

    def _plot(self, path: Path) -> None:
        import matplotlib.style
        from matplotlib.figure import Figure  # not pyplot: no global state, no display

        panels = {
            "weighted terms": [c for c in self.columns() if c.endswith("_weighted")],
            "Dice on labeled patches": [c for c in self.columns() if c.startswith("labeled_dice")],
            "class weight": [c for c in self.columns() if c.startswith("class_weight")],
        }
        with matplotlib.style.context("default"):  # nnU-Net changes the style of the whole process
            figure = Figure(figsize=(8, 9), layout="constrained")
            for axis, (title, columns) in zip(
                figure.subplots(len(panels), 1, sharex=True), panels.items(), strict=True
            ):
                for column in columns:
                    axis.plot(
                        [r["epoch"] for r in self.rows], [r.get(column, math.nan) for r in self.rows], label=column
                    )
                axis.set_title(title)
                if columns:
                    axis.legend(fontsize=7)
            axis.set_xlabel("epoch")
            with replaced_file(path) as temporary:
                figure.savefig(temporary, dpi=100)

    def state_dict(self) -> list[dict[str, float]]:
        """Return the rows."""
        return list(self.rows)

    def load_state_dict(self, state: list[dict[str, float]]) -> None:
        """Restore the rows."""
        rows = [dict(row) for row in state]
        if not all(isinstance(row.get("epoch"), int) for row in rows):
            raise ValueError("the log has rows without an epoch")
        self.rows = rows
