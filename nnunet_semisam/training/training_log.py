"""Our own log: raw and weighted terms of every epoch, as csv and as a picture.

nnU-Net 2.8.1's local logger accepts eight fixed keys only, so the terms of this package get files of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.utilities.collate_outputs import collate_outputs

from nnunet_semisam import ranks
from nnunet_semisam.io.csv_files import write_table
from nnunet_semisam.training.progress_picture import PictureSetup, write_progress_picture

CSV_NAME = "semisam_log.csv"
PICTURE_NAME = "progress_semisam.png"


def mean_terms(train_outputs: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the mean of each number over the steps of an epoch and the ranks; steps where it is NaN do not count.

    Args:
        train_outputs: What each step of this rank returned.
    """
    terms = {name: float(np.nanmean(values)) for name, values in collate_outputs(train_outputs).items()}
    all_ranks = ranks.gathered(terms)
    return {name: float(np.nanmean([each[name] for each in all_ranks])) for name in terms}


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

    def write(self, folder: Path, setup: PictureSetup | None = None) -> list[str]:
        """Write the csv file and the picture to ``folder``, with the rows of all epochs.

        Args:
            folder: nnU-Net's output folder.
            setup: What the picture cannot read of the rows.

        Returns:
            A sentence for each of the two that could not be replaced: Windows refuses it while a spreadsheet has the
            file open. No row is lost, and days of training must not end for it: the next epoch writes all rows again.
        """
        writers = {
            CSV_NAME: lambda path: write_table(path, self.columns(), self.rows),
            PICTURE_NAME: lambda path: write_progress_picture(path, self.rows, setup or PictureSetup()),
        }
        kept_back = []
        for name, write in writers.items():
            try:
                write(folder / name)
            except PermissionError as error:
                kept_back.append(
                    f"{folder / name} cannot be replaced ({error.strerror}). Close it in other programs; it is written "
                    "with the next epoch, and no row is lost."
                )
        return kept_back

    def state_dict(self) -> list[dict[str, float]]:
        """Return the rows."""
        return list(self.rows)

    def load_state_dict(self, state: list[dict[str, float]]) -> None:
        """Restore the rows."""
        rows = [dict(row) for row in state]
        if not all(isinstance(row.get("epoch"), int) for row in rows):
            raise ValueError("the log has rows without an epoch")
        self.rows = rows
