"""Which cases the trainings of a benchmark saw, told by the dataset itself, and only if it still is the same."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunet_semisam.benchmark.plan import split_digest
from nnunet_semisam.data.raw_files import image_files
from nnunet_semisam.report.reading.benchmark_folder import Benchmark
from nnunet_semisam.splits.default_splits import SPLITS_FILE
from nnunet_semisam.splits.label_budgets import BUDGETS_FILE, MANIFEST_FILE, SPLIT_FILE


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
class DatasetRecord:
    """What is known of the dataset now.

    Attributes:
        folds: Fold -> its cases, for every fold that is as it was when the benchmark began.
        manifest: What the converter recorded; empty if none of ours made the dataset.
        split: What ``nnunet-semisam split`` was asked for; empty if it did not make the folds.
        pool: Number of cases in ``imagesUl``.
        missing: Why something is not known; empty if all is.
    """

    folds: dict[int, TrainingCases] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    split: dict[str, Any] = field(default_factory=dict)
    pool: int = 0
    missing: str = ""


def read_dataset(benchmark: Benchmark) -> DatasetRecord:
    """Look the dataset up in ``nnUNet_preprocessed`` and ``nnUNet_raw``; never an error, a report needs neither."""
    name = benchmark.study["dataset"]
    folders = [os.environ.get(variable) for variable in ("nnUNet_preprocessed", "nnUNet_raw")]
    if not all(folders):
        return DatasetRecord(missing="nnUNet_raw or nnUNet_preprocessed is not set, so the cases are not known")
    preprocessed, raw = (Path(folder) / name for folder in folders)
    try:
        splits = json.loads((preprocessed / SPLITS_FILE).read_text(encoding="utf-8"))
        dataset_json = json.loads((raw / "dataset.json").read_text(encoding="utf-8"))
        manifest = raw / MANIFEST_FILE
        content = json.loads(manifest.read_text(encoding="utf-8")) if manifest.is_file() else {}
        pool = sorted(image_files(raw, dataset_json)["Ul"])
        folds = _folds(benchmark, splits, pool)
        asked = preprocessed / SPLIT_FILE
        by_split = asked.is_file() and (preprocessed / BUDGETS_FILE).is_file()
        split = json.loads(asked.read_text(encoding="utf-8")) if by_split else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        return DatasetRecord(missing=f"{name} cannot be read any more ({error})")
    changed = [fold for fold in benchmark.study["folds"] if int(fold) not in folds]
    note = f"{SPLITS_FILE} has changed since, in fold {', '.join(map(str, changed))}" if changed else ""
    return DatasetRecord(folds, content, {} if changed else split, len(pool), note)


def _folds(benchmark: Benchmark, splits: list[dict[str, list[str]]], pool: list[str]) -> dict[int, TrainingCases]:
    found = {}
    for name, content in benchmark.study["folds"].items():
        fold = int(name)
        if fold < len(splits) and split_digest(splits[fold]) == content["sha256"]:
            hidden = splits[fold].get("unlabeled", [])
            found[fold] = TrainingCases(sorted(splits[fold]["train"]), sorted({*pool, *hidden}))
    return found
