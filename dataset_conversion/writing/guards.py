"""Where a dataset may be written, and when not: ids, folds, other content, disk space, other processes."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nnunet_semisam.errors import UserError
from nnunet_semisam.io.hashes import sha256_of
from nnunet_semisam.splits.default_splits import SPLITS_FILE
from nnunet_semisam.splits.folds import load_splits, same_splits
from nnunet_semisam.splits.label_budgets import GROUPS_FILE, MANIFEST_FILE, TEST_SETS_FILE, read_grouping
from nnunet_semisam.splits.replan import ct_channels

from ..reading.case import Conversion
from .parallel import in_threads

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
    folder = Path(value)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"nnUNet_raw={value} cannot be used as a folder ({error}). Let it point to one.") from error
    return folder


def dataset_folder_name(dataset_id: int, name: str) -> str:
    """Return nnU-Net's folder name of a dataset, for example ``Dataset027_ACDC``.

    Raises:
        UserError: If the id does not fit nnU-Net's three digits.
    """
    if not 1 <= dataset_id <= 999:
        raise UserError(f"The dataset id must be between 1 and 999, got {dataset_id}. Choose another with -d.")
    return f"Dataset{dataset_id:03d}_{name}"


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


def compare_existing(folder: Path, manifest: dict[str, Any], workers: int) -> dict[str, Any]:
    """Accept a folder that an identical conversion made, and nothing else.

    Args:
        folder: The folder that is there.
        manifest: What the conversion plans.
        workers: How many files are read at the same time.

    Returns:
        The whole manifest of that folder.

    Raises:
        UserError: If the folder was made by something else, from other data or settings, or was changed since.
    """
    way_out = f"Choose another id with -d, or move {folder} away and run this again."
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise UserError(f"{folder} exists and was not made by this command. {way_out}")
    try:
        found = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error}). {way_out}") from error
    recorded = _roles_beside_the_manifest(folder) | found
    for key, planned in manifest.items():
        if key not in recorded:
            raise UserError(
                f"{path} does not hold {key!r}: another version of this command wrote it, so it cannot be told whether "
                f"this is the same dataset. {way_out}"
            )
        if recorded[key] != planned:
            raise UserError(
                f"{folder} exists with other content: its {key} differ. {_difference(recorded[key], planned)}{way_out}"
            )
    written = found.get("files", {})
    unchanged = in_threads(lambda item: _is_unchanged(folder / item[0], item[1]), written.items(), workers, "comparing")
    changed = [name for name, same in zip(written, unchanged, strict=True) if not same]
    if changed:
        names = ", ".join(changed[:5]) + (", ..." if len(changed) > 5 else "")
        raise UserError(f"{folder} was changed after it was made ({len(changed)} files: {names}). {way_out}")
    return found


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


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder; wait for a process that has it. The lock ends with the process, however that ends.

    Where the system has no such locks (Windows, some network file systems), nothing is locked. A mixture of two runs
    is impossible even then: each builds in a folder of its own and counts what it made.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logging.getLogger(__name__).warning("Another conversion is writing to %s: waiting for it.", folder)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            logging.getLogger(__name__).warning(
                "%s cannot be locked (%s): run one conversion at a time.", folder, error
            )
        yield
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content as hexadecimal digits.

    Raises:
        UserError: If the file cannot be read.
    """
    try:
        return sha256_of(path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error}). Fix its link or permissions, and run this again."
        ) from error


def _roles_beside_the_manifest(folder: Path) -> dict[str, Any]:
    """Return what manifests of older versions do not hold, from files that these versions wrote beside them."""
    if not (folder / GROUPS_FILE).is_file():
        return {}
    path = folder / TEST_SETS_FILE
    try:
        test_sets = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}). Run the converter again under another id.") from error
    return {"grouping": asdict(read_grouping(folder)), "test_sets": test_sets}


def _is_unchanged(path: Path, digest: str) -> bool:
    return path.is_file() and sha256(path) == digest


def _difference(found: Any, planned: Any) -> str:
    if not isinstance(found, dict) or not isinstance(planned, dict):
        return ""
    keys = [key for key in sorted({*found, *planned}) if found.get(key) != planned.get(key)]
    return f"({', '.join(keys[:5])}{', ...' if len(keys) > 5 else ''}) "
