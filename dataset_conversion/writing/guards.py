"""Where a dataset may be written, and when not: ids, folds, disk space."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from nnunet_semisam.errors import UserError
from nnunet_semisam.io.names import check_case_name
from nnunet_semisam.splits.default_splits import SPLITS_FILE
from nnunet_semisam.splits.folds import load_splits, same_splits
from nnunet_semisam.splits.replan import ct_channels

from ..reading.case import Conversion

SPARE_BYTES = 64 * 2**20  # json files, file system overhead


def raw_folder() -> Path:
    """Return ``nnUNet_raw``, made if it is not there yet.

    Raises:
        UserError: If the variable is not set, or does not name a folder that can be made.
    """
    value = os.environ.get("nnUNet_raw")
    if not value:
        raise UserError(
            "The environment variable nnUNet_raw is not set. Say where raw datasets shall be kept, for example "
            '`export nnUNet_raw="$HOME/nnunet/raw"` (and likewise nnUNet_preprocessed and nnUNet_results).'
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"nnUNet_raw={value} is no text in UTF-8, which image readers need. Let it point to another folder."
        ) from error
    folder = Path(value)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"nnUNet_raw={value} cannot be used as a folder ({error}). Let it point to one.") from error
    return folder


def dataset_folder_name(dataset_id: int, name: str) -> str:
    """Return nnU-Net's folder name of a dataset, for example ``Dataset027_ACDC``.

    Raises:
        UserError: If the id does not fit nnU-Net's three digits, or the name is too long for a folder.
    """
    if not 1 <= dataset_id <= 999:
        raise UserError(f"The dataset id must be between 1 and 999, got {dataset_id}. Choose another with -d.")
    return check_case_name(f"Dataset{dataset_id:03d}_{name}", "The new dataset", "Choose another with --name.")


def refuse_other_names(dataset_id: int, name: str) -> None:
    """Refuse an id that another dataset has: nnU-Net finds datasets by their id alone.

    Raises:
        UserError: If a folder with this id and another name is in one of nnU-Net's three folders.
    """
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        root = os.environ.get(variable)
        others = Path(root).glob(f"Dataset{dataset_id:03d}_*") if root else []
        for other in others:
            if other.is_dir() and other.name != name:
                raise UserError(
                    f"The dataset id {dataset_id} belongs to {other}, so {name} cannot have it, too. Choose a free id "
                    "with -d, or move that folder away."
                )


def refuse_other_folds(conversion: Conversion, name: str) -> None:
    """Refuse to make a dataset whose preprocessed version follows other folds.

    nnU-Net's planner copies ``splits_final.json`` from the raw folder only where none is, and never compares
    ``"unlabeled"`` lists.

    Raises:
        UserError: If ``nnUNet_preprocessed/DATASET/splits_final.json`` is there and differs.
    """
    root = os.environ.get("nnUNet_preprocessed")
    path = Path(root) / name / SPLITS_FILE if root else None
    if path is not None and path.is_file() and not same_splits(load_splits(path), conversion.splits):
        raise UserError(
            f"{path} exists and holds other folds than this conversion makes; nnU-Net would train on those. Move "
            f"{path.parent} away if it is no longer needed, or choose another id with -d."
        )


def refuse_hidden_labels_of_ct(conversion: Conversion) -> None:
    """Refuse ``"unlabeled"`` lists for CT: nnU-Net takes its normalisation from all labels in labelsTr.

    Raises:
        UserError: If a fold hides labels and a channel is called CT. Training would refuse it later.
    """
    channels = ct_channels(conversion.channel_names)
    if channels and any(fold.get("unlabeled") for fold in conversion.splits):
        raise UserError(
            f"{conversion.source}: several label budgets in one dataset hide labels, but channel {channels[0]} is "
            "normalised with numbers from all labels. Give --labeled one number, and one -d per number; or --labeled "
            "all, and make the budgets with: nnunet-semisam split -d ID --labeled N N ... --replan"
        )


def check_free_space(conversion: Conversion, folder: Path) -> None:
    """Compare the size of the sources with the free disk space.

    Raises:
        UserError: If the dataset would not fit.
    """
    needed = sum(each.path.stat().st_size for case in conversion.cases for each in case.sources) + SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder} has {free / 2**20:.0f} MiB free; this dataset needs {needed / 2**20:.0f} MiB. Make room, or let "
            "nnUNet_raw point to a larger disk."
        )
