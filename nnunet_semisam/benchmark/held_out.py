"""The cases that judge: images and labels of no training, gathered as links for ``nnUNetv2_predict``."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from nnunet_semisam.benchmark.plan import Study
from nnunet_semisam.data import leakage
from nnunet_semisam.data.datasets import PlannedDataset
from nnunet_semisam.data.default_splits import SPLITS_FILE
from nnunet_semisam.data.label_budgets import TEST_SETS_FILE
from nnunet_semisam.data.splits import load_splits, write_json
from nnunet_semisam.errors import UserError
from nnunet_semisam.file_hash import sha256_of

CHECKED_FILE = "leakage.json"


@dataclass(frozen=True)
class HeldOut:
    """Cases that no training has seen.

    Attributes:
        folder: Holds ``images`` and ``labels``, links to the raw dataset.
        cases: Case identifiers, sorted.
    """

    folder: Path
    cases: list[str]

    @property
    def images(self) -> Path:
        """Return the folder for ``nnUNetv2_predict -i``."""
        return self.folder / "images"

    def label(self, case: str, file_ending: str) -> Path:
        """Return the true label map of a case."""
        return self.folder / "labels" / f"{case}{file_ending}"


def test_cases(raw: Path, file_ending: str, test_set: str | None) -> list[str]:
    """Return the test cases that have labels.

    Raises:
        UserError: If there is none, or several test sets are there and none was chosen, or the one is unknown.
    """
    images = leakage.image_files(raw, file_ending)["Ts"]
    cases = [case for case in sorted(images) if (raw / "labelsTs" / f"{case}{file_ending}").is_file()]
    sets_file = raw / TEST_SETS_FILE
    sets = json.loads(sets_file.read_text(encoding="utf-8")) if sets_file.is_file() else {}
    if test_set is None and len(sets) > 1:
        raise UserError(f"{raw} has several test sets: {', '.join(sets)}. Choose one with --test-set.")
    if test_set is not None:
        if test_set not in sets:
            raise UserError(f"--test-set {test_set}: {sets_file} names {', '.join(sets) or 'no test set'}.")
        cases = [case for case in cases if case in sets[test_set]]
    if not cases:
        raise UserError(
            f"{raw} has no test case with a label (imagesTs and labelsTs). Add some, or judge on the validation cases "
            "of the folds: --cases val."
        )
    return cases


def cases_to_judge(study: Study, dataset: PlannedDataset, fold: int) -> list[str]:
    """Return the cases that judge a fold.

    Raises:
        UserError: If there is none, an image or label is missing, or a case is trained on.
    """
    ending = dataset.dataset_json["file_ending"]
    if study.cases == "test":
        return test_cases(dataset.raw, ending, study.test_set)
    split = load_splits(dataset.preprocessed / SPLITS_FILE)[fold]
    if trained := sorted({*split["val"]} & {*split["train"], *split.get("unlabeled", [])}):
        raise UserError(
            f"Fold {fold} validates on cases that it trains on ({', '.join(trained[:5])}), which judge nothing. Leave "
            "it out, or use --cases test."
        )
    images = leakage.image_files(dataset.raw, ending)["Tr"]
    for case in split["val"]:
        if case not in images or not (dataset.raw / "labelsTr" / f"{case}{ending}").is_file():
            raise UserError(f"{dataset.raw} lacks image or label of {case}. Add the file, or take the case out.")
    return sorted(split["val"])


def pin(study: Study, dataset: PlannedDataset) -> Study:
    """Return the benchmark with what it judges on written down, and how many unlabeled images it may train on.

    Raises:
        UserError: If there is nothing to judge a fold on.
    """
    files = leakage.image_files(dataset.raw, dataset.dataset_json["file_ending"])
    unlabeled = sorted(files["Ul"])
    names = hashlib.sha256(json.dumps(unlabeled).encode()).hexdigest()
    pinned: dict[str, dict[str, str]] = {}
    for fold in study.folds:
        part, name = _place(study, fold)
        cases = cases_to_judge(study, dataset, fold)
        if name in pinned:
            continue  # all folds share the test cases
        pinned[name] = {
            case: _digest_of_files([*files[part][case], _label_file(dataset, part, case)])
            for case in tqdm(cases, desc="held-out cases", unit="case", leave=False)
        }
    return replace(study, held_out=pinned, unlabeled={"cases": len(unlabeled), "sha256": names})


def _digest_of_files(paths: Iterable[str | Path]) -> str:
    return hashlib.sha256("".join(sha256_of(Path(path)) for path in paths).encode()).hexdigest()


def _place(study: Study, fold: int) -> tuple[str, str]:
    """Return the part of the dataset that judges a fold, and the name of that set of cases."""
    return ("Ts", "test") if study.cases == "test" else ("Tr", f"val_fold_{fold}")


def _label_file(dataset: PlannedDataset, part: str, case: str) -> Path:
    return dataset.raw / f"labels{part}" / f"{case}{dataset.dataset_json['file_ending']}"


def gather(study: Study, dataset: PlannedDataset, fold: int) -> HeldOut:
    """Return the cases that judge a fold; make links to their files where these are not there."""
    part, name = _place(study, fold)
    files = leakage.image_files(dataset.raw, dataset.dataset_json["file_ending"])[part]
    folder = study.folder / "held_out" / name
    cases = cases_to_judge(study, dataset, fold)
    for case in cases:
        for source in files[case]:
            _link(Path(source), folder / "images" / Path(source).name)
        label = _label_file(dataset, part, case)
        _link(label, folder / "labels" / label.name)
    return HeldOut(folder, cases)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    wanted = source.resolve()
    if target.is_symlink() and target.readlink() == wanted:
        return
    if target.exists() and not target.is_symlink():
        return  # a copy, where a benchmark was moved to a place without links
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}")
    temporary.symlink_to(wanted)
    os.replace(temporary, target)  # also over a link to where the dataset was before


def check_leaks(study: Study, dataset: PlannedDataset, num_processes: int) -> dict[str, str]:
    """Compare training, validation and test cases by patient and by content, once per fold and its images.

    Returns:
        Digest of every fold without leaks -> digest of all that was compared, for :func:`record_leaks`.

    Raises:
        UserError: If a patient or an image is on two sides.
    """
    record = study.folder / CHECKED_FILE
    checked = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    splits = load_splits(dataset.preprocessed / SPLITS_FILE)
    digests = None
    for fold, content in study.folds.items():
        compared = json.dumps([study.unlabeled, study.held_out[_place(study, fold)[1]]], sort_keys=True)
        digest = hashlib.sha256(compared.encode()).hexdigest()
        if checked.get(content["sha256"]) == digest:
            continue
        files = leakage.image_files(dataset.raw, dataset.dataset_json["file_ending"])
        sides = leakage.sides_of(splits[fold], files)
        leakage.refuse_leaks(leakage.shared_groups(sides, study.group_of), dataset.raw)
        digests = digests or leakage.content_digests(files, dataset.dataset_json, num_processes)
        leakage.refuse_leaks(leakage.shared_images(sides, digests)[0], dataset.raw)
        checked[content["sha256"]] = digest
    return checked


def record_leaks(study: Study, checked: dict[str, str]) -> None:
    """Remember what was compared, so that a benchmark that goes on does not read every image again."""
    write_json(study.folder / CHECKED_FILE, checked)
