"""Which cases the trainings of a benchmark saw, told by the dataset itself, and only if it still is the same."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunet_semisam.benchmark.plan import split_digest
from nnunet_semisam.data.raw_files import image_files
from nnunet_semisam.errors import UserError, printable
from nnunet_semisam.io.json_files import read_object
from nnunet_semisam.io.typed_records import read_entry, read_record
from nnunet_semisam.report.reading.benchmark_folder import Benchmark
from nnunet_semisam.report.reading.damage import without_folders
from nnunet_semisam.splits.default_splits import SPLITS_FILE
from nnunet_semisam.splits.folds import load_splits
from nnunet_semisam.splits.label_budgets import BUDGETS_FILE, MANIFEST_FILE, SPLIT_FILE

REMEDY = "The page can be made without it."


@dataclass(frozen=True)
class TrainingCases:
    """What a fold trains on.

    Attributes:
        labeled: Cases with labels.
        unlabeled: Cases without: of ``imagesUl``, and those whose labels the fold hides.
    """

    labeled: list[str]
    unlabeled: list[str]


@dataclass(frozen=True)
class Manifest:
    """What a converter recorded of the dataset that it made.

    Attributes:
        converter: Name of the converter; empty if it is not recorded.
        settings: Options of the conversion, as the converter wrote them.
        notes: What it found in the data, in sentences.
        fingerprint: One hash of all voxels, labels and folds; empty if it is not recorded.
    """

    converter: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    fingerprint: str = ""


@dataclass(frozen=True)
class SplitRequest:
    """What ``nnunet-semisam split`` was called with.

    Attributes:
        labeled: Words after ``--labeled``.
        val: Names of the validation groups.
        group: The pattern that finds a case's group, or ``None``.
        seed: Seed of the order.
        order: Lines of the file with the order; empty without one.
    """

    labeled: tuple[str, ...]
    val: tuple[str, ...]
    group: str | None = None
    seed: int = 0
    order: tuple[str, ...] = ()


@dataclass(frozen=True)
class DatasetRecord:
    """What is known of the dataset now.

    Attributes:
        folds: Fold -> its cases, for every fold that is as it was when the benchmark began.
        manifest: What the converter recorded; ``None`` if none of ours made the dataset.
        split: What ``nnunet-semisam split`` was called with; ``None`` if it did not make the folds.
        pool: Number of cases in ``imagesUl``.
        missing: Why something is not known; empty if all is.
    """

    folds: Mapping[int, TrainingCases] = field(default_factory=dict)
    manifest: Manifest | None = None
    split: SplitRequest | None = None
    pool: int = 0
    missing: str = ""


def read_dataset(benchmark: Benchmark) -> DatasetRecord:
    """Look the dataset up in ``nnUNet_preprocessed`` and ``nnUNet_raw``; never an error, a report needs neither."""
    name = benchmark.study.dataset
    preprocessed = os.environ.get("nnUNet_preprocessed")
    raw = os.environ.get("nnUNet_raw")
    if not preprocessed or not raw:
        return DatasetRecord(missing="nnUNet_raw or nnUNet_preprocessed is not set, so the cases are not known")
    try:
        return _read(benchmark, Path(preprocessed) / name, Path(raw) / name)
    except (OSError, UserError) as error:
        benchmark.damage.note("records of the dataset", name, error)
        why = without_folders(str(error), benchmark.folder)
        return DatasetRecord(missing=f"{name} cannot be read any more ({printable(why, 300)})")


def _read(benchmark: Benchmark, preprocessed: Path, raw: Path) -> DatasetRecord:
    splits = load_splits(preprocessed / SPLITS_FILE)
    dataset_json = read_object(raw / "dataset.json", REMEDY)
    read_entry(str, dataset_json, "file_ending")
    pool = sorted(image_files(raw, dataset_json)["Ul"])
    folds = _unchanged_folds(benchmark, splits, pool)
    changed = [str(fold) for fold in benchmark.study.folds if fold not in folds]
    return DatasetRecord(
        folds=folds,
        manifest=_manifest(raw / MANIFEST_FILE),
        split=None if changed else _split_request(preprocessed),
        pool=len(pool),
        missing=f"{SPLITS_FILE} has changed since, in fold {', '.join(changed)}" if changed else "",
    )


def _unchanged_folds(
    benchmark: Benchmark, splits: Sequence[Mapping[str, Sequence[str]]], pool: Sequence[str]
) -> dict[int, TrainingCases]:
    found = {}
    for number, fold in benchmark.study.folds.items():
        if number < len(splits) and split_digest(splits[number]) == fold.sha256:
            hidden = splits[number].get("unlabeled", [])
            found[number] = TrainingCases(sorted(splits[number]["train"]), sorted({*pool, *hidden}))
    return found


def _manifest(path: Path) -> Manifest | None:
    if not path.is_file():
        return None
    content = read_object(path, REMEDY)
    manifest = read_record(Manifest, content, path.name)
    read_record(_Settings, manifest.settings, f"{path.name}, settings")
    return manifest


def _split_request(preprocessed: Path) -> SplitRequest | None:
    path = preprocessed / SPLIT_FILE
    if not path.is_file() or not (preprocessed / BUDGETS_FILE).is_file():
        return None
    content = read_object(path, REMEDY)
    words = [str(word) for word in read_entry(list[int | str], content, "labeled")]
    request = read_record(SplitRequest, {**content, "labeled": words, "order": content.get("order") or []}, path.name)
    for name in ("val", "group", "seed"):
        read_entry(Any, content, name)
    return request


@dataclass(frozen=True)
class _Settings:
    """Of which kind the options of a conversion are that the page repeats."""

    labeled_patients: list[list[str]] | None = None
    labeled_cases: list[list[str]] | None = None
    val_patients: list[str] | None = None
    val_cases: list[str] | None = None
    test_patients: list[str] | None = None
    left_out: list[str] | None = None
    seed: int | None = None
