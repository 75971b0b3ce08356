"""Writing a raw dataset: all of it or nothing, and never over something else."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_semisam.errors import UserError
from nnunet_semisam.io.atomic import new_folder, remove_temporaries
from nnunet_semisam.io.json_files import write_json
from nnunet_semisam.io.locks import folder_lock
from nnunet_semisam.splits.default_splits import SPLITS_FILE
from nnunet_semisam.splits.folds import write_splits
from nnunet_semisam.splits.label_budgets import (
    BUDGETS_FILE,
    MANIFEST_FILE,
    TEST_SETS_FILE,
    budgets_as_json,
    write_grouping,
)

from ..reading.case import PARTS, Conversion, Source
from .checks import Inspection, check_conversion
from .faults import find_faults
from .guards import (
    check_free_space,
    dataset_folder_name,
    raw_folder,
    refuse_hidden_labels_of_ct,
    refuse_other_folds,
    refuse_other_names,
)
from .manifest import (
    Manifest,
    Outcome,
    PlannedContent,
    compare_existing,
    dataset_json,
    digests_of,
    make_manifest,
    plan_content,
)

MOST_SHOWN = 5


@dataclass(frozen=True)
class Result:
    """What became of a conversion.

    Attributes:
        folder: The raw dataset.
        conversion: What it holds.
        already_there: Whether an earlier run had made the same, so that nothing was written.
        notes: Sentences the user should read, also after a run that wrote nothing.
        fingerprint: One hash of all voxels, labels and folds.
    """

    folder: Path
    conversion: Conversion
    already_there: bool
    notes: Sequence[str]
    fingerprint: str


def write_dataset(conversion: Conversion, dataset_id: int, workers: int = 1) -> Result:
    """Check a planned conversion and write it to ``nnUNet_raw``.

    The dataset is built in a hidden folder next to its place and renamed at the end; what a killed run left is removed
    first. Conversions into one raw folder take turns.

    Args:
        conversion: What to write.
        dataset_id: nnU-Net's id of the dataset.
        workers: How many files are read at the same time.

    Raises:
        UserError: If ``nnUNet_raw`` is not set, the id is taken by other content, the data have faults, preprocessed
            folds differ, or the disk is too full.
    """
    raw = raw_folder()
    target = raw / dataset_folder_name(dataset_id, conversion.name)
    with folder_lock(raw, wait=True):
        remove_temporaries(raw, glob.escape(target.name))
        refuse_other_names(dataset_id, target.name)
        faults = find_faults(conversion, workers)
        if faults.findings:
            check_conversion(conversion, workers, faults)  # raises, with what is wrong in the other files
        refuse_other_folds(conversion, target.name)
        refuse_hidden_labels_of_ct(conversion)
        planned = plan_content(conversion, workers)
        already_there = target.exists()
        if already_there:
            outcome = compare_existing(target, planned, workers)
        else:
            check_free_space(conversion, raw)
            inspection = check_conversion(conversion, workers, faults)
            manifest = _build(conversion, planned, inspection, target, workers)
            outcome = Outcome(manifest.notes, manifest.fingerprint)
    return Result(target, conversion, already_there, outcome.notes, outcome.fingerprint)


def _build(
    conversion: Conversion, planned: PlannedContent, inspection: Inspection, target: Path, workers: int
) -> Manifest:
    try:
        with new_folder(target) as folder:
            _write_cases(conversion, folder)
            _write_json_files(conversion, folder)
            written = sorted(path for path in folder.rglob("*") if path.is_file())
            digests = digests_of(written, workers, "comparing")
            files = {str(path.relative_to(folder)): digests[path] for path in written}
            _check_complete(files, planned, copies_of(conversion))
            manifest = make_manifest(conversion, planned, inspection, files)
            write_json(folder / MANIFEST_FILE, manifest.as_json())
    except OSError as error:
        raise UserError(
            f"{target} could not be written ({error}). Nothing was left behind; fix that and retry."
        ) from error
    return manifest


def _write_cases(conversion: Conversion, folder: Path) -> None:
    from tqdm import tqdm

    (folder / "imagesTr").mkdir()
    (folder / "labelsTr").mkdir()
    for part in PARTS:
        if conversion.of_part(part):
            (folder / f"images{part}").mkdir(exist_ok=True)
    for case in tqdm(conversion.cases, desc="writing", unit="case", leave=False, disable=None):
        for source, name in zip(case.sources, case.targets(conversion.file_ending), strict=True):
            target = folder / name
            if target.parent.parent != folder or ".." in target.parts:
                raise UserError(f"{name} would lie outside of {folder}. Rename {case.identifier}.")
            target.parent.mkdir(exist_ok=True)
            _write_file(source, target)


def _write_file(source: Source, target: Path) -> None:
    try:
        source.write(target)
    except RuntimeError as error:  # how SimpleITK says that a disk is full or a file has gone
        raise UserError(
            f"{source.path} could not be written to {target} ({error}). Nothing was left behind; fix that and retry."
        ) from error


def copies_of(conversion: Conversion) -> set[str]:
    """Return the targets that must be equal to their source, byte for byte."""
    copies = set()
    for case in conversion.cases:
        for source, target in zip(case.sources, case.targets(conversion.file_ending), strict=True):
            if not source.rewrite:
                copies.add(target)
    return copies


def _check_complete(files: Mapping[str, str], planned: PlannedContent, copies: set[str]) -> None:
    missing = planned.sources.keys() - files.keys()
    altered = {name for name in copies - missing if planned.sources[name].sha256 != files[name]}
    if missing or altered:
        names = ", ".join(sorted({*missing, *altered})[:MOST_SHOWN])
        raise UserError(
            f"{len(missing)} files are missing and {len(altered)} differ from their source after copying ({names}). "
            "Does another program change the data? Nothing was left behind; run this again."
        )


def _write_json_files(conversion: Conversion, folder: Path) -> None:
    write_json(folder / "dataset.json", dataset_json(conversion))
    write_splits(folder / SPLITS_FILE, conversion.splits)
    write_json(folder / BUDGETS_FILE, budgets_as_json(conversion.budgets))
    write_grouping(folder, conversion.grouping)
    if conversion.test_sets:
        write_json(folder / TEST_SETS_FILE, conversion.test_sets)
