"""Writing a raw dataset: all of it or nothing, and never over something else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnunet_semisam import __version__
from nnunet_semisam.errors import UserError
from nnunet_semisam.splits.default_splits import SPLITS_FILE
from nnunet_semisam.splits.folds import write_json, write_splits
from nnunet_semisam.splits.label_budgets import BUDGETS_FILE, MANIFEST_FILE, TEST_SETS_FILE, write_grouping

from ..reading.case import PARTS, Case, Conversion, Source
from ..reading.facts import as_json, fingerprint
from .checks import Inspection, check_conversion, raise_findings
from .guards import (
    check_free_space,
    compare_existing,
    dataset_folder_name,
    exclusive,
    raw_folder,
    refuse_hidden_labels_of_ct,
    refuse_other_folds,
    refuse_other_names,
    sha256,
)
from .parallel import in_threads


@dataclass(frozen=True)
class Result:
    """What became of a conversion.

    Attributes:
        folder: The raw dataset.
        conversion: What it holds.
        already_there: Whether an earlier run had made the same, so that nothing was written.
        notes: Sentences the user should read, also after a run that wrote nothing.
        fingerprint: One hash of all voxels, labels and folds; empty for datasets of older versions.
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
    with exclusive(raw):
        return _write(conversion, dataset_id, target, workers)


def _write(conversion: Conversion, dataset_id: int, target: Path, workers: int) -> Result:
    for left in target.parent.glob(f"{unfinished(target).stem}.*"):
        shutil.rmtree(left, ignore_errors=True)
    refuse_other_names(dataset_id, target.name)
    raise_findings([*conversion.findings, *repeated_identifiers(conversion)], conversion.source)
    refuse_other_folds(conversion, target.name)
    refuse_hidden_labels_of_ct(conversion)
    planned = plan_manifest(conversion, workers)
    already_there = target.exists()
    if already_there:
        manifest = compare_existing(target, planned, workers)
    else:
        check_free_space(conversion, target.parent)
        inspection = check_conversion(conversion, workers)
        manifest = planned | inspected_manifest(conversion, inspection)
        _build(conversion, manifest, target, workers)
    notes = manifest.get("notes", conversion.notes)
    return Result(target, conversion, already_there, notes, manifest.get("fingerprint", ""))


def unfinished(target: Path) -> Path:
    """Return the hidden folder in which this process builds: next to the target, so that a rename is enough."""
    return target.with_name(f".{target.name}.unfinished.{os.getpid()}")


def dataset_json(conversion: Conversion) -> dict[str, Any]:
    """Return the content of nnU-Net's ``dataset.json``."""
    return {
        **conversion.more_json,
        "channel_names": conversion.channel_names,
        "labels": conversion.labels,
        "numTraining": len(conversion.of_part("Tr")),
        "file_ending": conversion.file_ending,
        "converted_by": "nnunet-semisam",
    }


def plan_manifest(conversion: Conversion, workers: int) -> dict[str, Any]:
    """Return what makes two conversions the same: settings, folds, and the hash of every source file."""
    paths = {
        target: source.path
        for case in conversion.cases
        for source, target in zip(case.sources, case.targets(conversion.file_ending), strict=True)
    }
    once = sorted(set(paths.values()))  # channels may share a file
    digests = dict(zip(once, in_threads(sha256, once, workers, "hashing"), strict=True))
    sources = {
        target: {"source": Path(os.path.relpath(path, conversion.source)).as_posix(), "sha256": digests[path]}
        for target, path in paths.items()
    }
    return {
        "converter": conversion.name,
        "settings": conversion.settings,
        "dataset": dataset_json(conversion),
        "splits": conversion.splits,
        **roles_of(conversion),
        "sources": dict(sorted(sources.items())),
    }


def roles_of(conversion: Conversion) -> dict[str, Any]:
    """Return what later commands go by beyond the folds: who is labeled first, who validates, which cases test."""
    return {"grouping": asdict(conversion.grouping), "test_sets": conversion.test_sets}


def inspected_manifest(conversion: Conversion, inspection: Inspection) -> dict[str, Any]:
    """Return what the manifest says beyond the plan: what is in the files, and what the user was told."""
    return {
        "fingerprint": fingerprint(inspection.facts, dataset_json(conversion), conversion.splits),
        "notes": [*conversion.notes, *inspection.notes],
        "images": as_json(inspection.facts),
    }


def repeated_identifiers(conversion: Conversion) -> list[str]:
    """Return a finding for every case identifier that comes twice, for example a patient in training and testing."""
    first: dict[str, Case] = {}
    findings = []
    for case in conversion.cases:
        other = first.setdefault(case.identifier, case)
        if other is not case:
            findings.append(
                f"{case.images[0].path}: is the same case as {other.images[0].path}. Remove or rename one of them."
            )
    return findings


def _build(conversion: Conversion, manifest: dict[str, Any], target: Path, workers: int) -> None:
    from tqdm import tqdm

    temporary = unfinished(target)
    try:
        for kind in {f"images{part}" for part in PARTS if conversion.of_part(part)} | {"imagesTr", "labelsTr"}:
            (temporary / kind).mkdir(parents=True)
        for case in tqdm(conversion.cases, desc="writing", unit="case", leave=False):
            for source, name in zip(case.sources, case.targets(conversion.file_ending), strict=True):
                (temporary / name).parent.mkdir(exist_ok=True)
                _write_file(source, temporary / name)
        _write_json_files(conversion, temporary)
        names = sorted(str(path.relative_to(temporary)) for path in temporary.rglob("*") if path.is_file())
        files = dict(
            zip(names, in_threads(sha256, [temporary / name for name in names], workers, "comparing"), strict=True)
        )
        _check_complete(files, manifest, copies_of(conversion))
        write_json(temporary / MANIFEST_FILE, {**manifest, "files": files, "nnunet_semisam": __version__})
        os.replace(temporary, target)
    except OSError as error:
        raise UserError(
            f"{target} could not be written ({error}). Nothing was left behind; fix that and retry."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_file(source: Source, target: Path) -> None:
    try:
        source.write(target)
    except RuntimeError as error:  # how SimpleITK says that a disk is full or a file has gone
        raise UserError(
            f"{source.path} could not be written to {target} ({error}). Nothing was left behind; fix that and retry."
        ) from error


def copies_of(conversion: Conversion) -> set[str]:
    """Return the targets that must be equal to their source, byte for byte."""
    return {
        target
        for case in conversion.cases
        for source, target in zip(case.sources, case.targets(conversion.file_ending), strict=True)
        if not source.rewrite
    }


def _check_complete(files: dict[str, str], manifest: dict[str, Any], copies: set[str]) -> None:
    missing = manifest["sources"].keys() - files.keys()
    altered = {name for name in copies - missing if manifest["sources"][name]["sha256"] != files[name]}
    if missing or altered:
        names = ", ".join(sorted({*missing, *altered})[:5])
        raise UserError(
            f"{len(missing)} files are missing and {len(altered)} differ from their source after copying ({names}). "
            "Does another program change the data? Nothing was left behind; run this again."
        )


def _write_json_files(conversion: Conversion, folder: Path) -> None:
    write_json(folder / "dataset.json", dataset_json(conversion))
    write_splits(folder / SPLITS_FILE, conversion.splits)
    write_json(folder / BUDGETS_FILE, {str(fold): budget for fold, budget in enumerate(conversion.budgets)})
    write_grouping(folder, conversion.grouping)
    if conversion.test_sets:
        write_json(folder / TEST_SETS_FILE, conversion.test_sets)
