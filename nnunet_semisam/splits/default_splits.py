"""Make sure that a split exists: nnU-Net's own default of five folds crashes with fewer than five labeled cases."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from nnunet_semisam.data.dataset_json import file_ending
from nnunet_semisam.data.raw_files import describe_labels, label_files, notes_on_unused
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.json_files import read_object
from nnunet_semisam.splits.folds import Split, load_splits, make_splits, validates_on_itself, write_splits
from nnunet_semisam.splits.label_budgets import group_function, read_grouping

SPLITS_FILE = "splits_final.json"


def ensure_splits(preprocessed: Path, raw: Path) -> list[str]:
    """Write ``splits_final.json`` into the preprocessed folder if there is none.

    A file of that name in the raw folder is checked and copied; otherwise the labeled cases are divided into
    min(5, groups) folds.

    Returns:
        Sentences that tell what was done; none if the file was there.

    Raises:
        UserError: If there are no labeled cases, or the file in the raw folder is malformed.
    """
    target = preprocessed / SPLITS_FILE
    if os.path.lexists(target):
        return []
    if os.path.lexists(raw / SPLITS_FILE):
        _write(target, load_splits(raw / SPLITS_FILE))
        return [f"Copied {SPLITS_FILE} from {raw}."]
    dataset_json = read_object(preprocessed / "dataset.json", "Plan the dataset again.")
    file_ending(dataset_json, preprocessed / "dataset.json")
    cases = list(label_files(raw, dataset_json))
    if not cases:
        raise UserError(
            f"{describe_labels(raw, dataset_json)} holds no labels. Training needs at least one labeled case. Add some."
        )
    splits = make_splits(cases, group_function(read_grouping(raw).pattern))
    _write(target, splits)
    messages = [f"Wrote {target}: {len(splits)} fold(s) over {len(cases)} labeled cases."]
    if validates_on_itself(splits[0]):
        messages.append(
            "WARNING: there is one labeled group only, so fold 0 validates on what it trains on: its validation Dice "
            "says nothing about new cases."
        )
    return messages + [f"note: {note}" for note in notes_on_unused(raw, dataset_json)]


def _write(target: Path, splits: Sequence[Split]) -> None:
    try:
        write_splits(target, splits)
    except OSError as error:
        raise UserError(f"{target} cannot be written ({error}). Make room, or see who may write there.") from error
