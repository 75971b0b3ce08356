"""The grid of a benchmark: which runs there are, and what must not change between one start and the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from nnunet_semisam.benchmark.records import CaseSet, Equal, HeldOutSet, Run, StudyFold, UnlabeledImages
from nnunet_semisam.data.datasets import PlannedDataset
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.begun_folders import load_begun, refuse_foreign_folder
from nnunet_semisam.io.hashes import sha256_of_json
from nnunet_semisam.io.json_files import write_json
from nnunet_semisam.io.locks import folder_lock
from nnunet_semisam.io.typed_records import ClassName, FileName, RecordError, read_record, read_value
from nnunet_semisam.jobs.nnunet_command import AUTO
from nnunet_semisam.splits.default_splits import SPLITS_FILE
from nnunet_semisam.splits.folds import LISTS, load_splits
from nnunet_semisam.splits.label_budgets import group_function, recorded_pattern

BASELINE = "nnUNetTrainerSupervised"
STUDY_FILE = "study.json"
FIXED = ("dataset", "plans", "plans_sha256", "settings", "equal", "cases", "test_set", "group")


@dataclass(frozen=True, kw_only=True)
class Study:
    """All runs of one benchmark, and what they share.

    Attributes:
        folder: Where everything is written; absolute.
        dataset: Name of the dataset.
        plans: Plans identifier.
        plans_sha256: Digest of the plans file.
        trainers: Class names; the baseline is among them.
        configurations: Names of configurations.
        folds: Index in ``splits_final.json`` -> the fold.
        seeds: Seeds of trainings.
        settings: What every run is given: flat settings by name, and blocks of settings by name.
        equal: What trainers have in common.
        cases: Which cases the runs are evaluated on.
        test_set: Name of one of several test sets, or ``None``.
        group: The pattern that finds the patient in a case's name; ``None`` cuts off frame numbers.
        unlabeled: What ``imagesUl`` holds; ``None`` before it was looked at.
        held_out: Name of a set of cases (see :meth:`held_out_set`) -> digests of their files.
        device: For nnU-Net's ``-device``; ``auto`` is found out where a run trains.
    """

    folder: Path
    dataset: FileName
    plans: FileName
    plans_sha256: str
    trainers: list[ClassName]
    configurations: list[FileName]
    folds: dict[int, StudyFold]
    seeds: list[int]
    settings: dict[str, Any]
    equal: Equal = Equal.STEPS
    cases: CaseSet = CaseSet.TEST
    test_set: str | None = None
    group: str | None = None
    unlabeled: UnlabeledImages | None = None
    held_out: dict[str, HeldOutSet] = field(default_factory=dict)
    device: str = field(default=AUTO, compare=False)

    def runs(self) -> list[Run]:
        """Return all runs, the baseline's first: others may need its step time."""
        trainers = sorted(self.trainers, key=lambda name: name != BASELINE)
        return [
            Run(trainer, configuration, index, fold.budget, seed)
            for trainer in trainers
            for configuration in self.configurations
            for index, fold in sorted(self.folds.items())
            for seed in self.seeds
        ]

    def folder_of(self, run: Run) -> Path:
        """Return the folder of a run."""
        return self.folder / "runs" / run.name

    def group_of(self, case: str) -> str:
        """Return the group (patient) of a case."""
        return group_function(self.group)(case)

    def held_out_set(self, fold: int) -> str:
        """Return the name of the set of cases that a fold is evaluated on; all folds share the test cases."""
        return "test" if self.cases == CaseSet.TEST else f"val_fold_{fold}"

    def to_json(self) -> dict[str, Any]:
        """Return all fields but the folder, ready for json."""
        content = asdict(self)
        del content["folder"]
        content["equal"] = self.equal.value
        content["cases"] = self.cases.value
        content["held_out"] = {name: held_out.digests for name, held_out in self.held_out.items()}
        return content

    @classmethod
    def from_json(cls, folder: Path, content: Any, place: str = "") -> Study:
        """Return the benchmark in ``folder``, of which ``study.json`` holds ``content``.

        Raises:
            RecordError: If the content is another.
        """
        content = read_value(dict[str, object], content, place or "it")
        digests = read_value(dict[str, object], content.get("held_out", {}), f"{place}.held_out".lstrip("."))
        held_out = {name: {"digests": found} for name, found in digests.items()}
        study = read_record(cls, {**content, "held_out": held_out}, place, folder=folder)
        try:
            group_function(study.group)
        except UserError as error:
            raise RecordError(f"{place}.group cannot be used: {error}".lstrip(".")) from error
        return study


def load_study(folder: Path) -> Study | None:
    """Return the benchmark that was begun in a folder, or ``None``.

    Raises:
        UserError: If its ``study.json`` cannot be read.
    """
    return load_begun(folder / STUDY_FILE, lambda content: Study.from_json(folder, content))


def begin(study: Study) -> Study:
    """Write a benchmark to its folder, or add its runs to those that were begun there.

    Returns:
        The benchmark with all runs of now and before.

    Raises:
        UserError: If the folder holds something else, or a benchmark with other data or settings.
    """
    refuse_other_study(study)
    with folder_lock(study.folder, wait=True):  # another may begin at this moment: neither must lose its runs
        study = refuse_other_study(study)
        write_json(study.folder / STUDY_FILE, study.to_json())
    return study


def refuse_other_study(study: Study) -> Study:
    """Return the benchmark with the runs that were begun in its folder before; write nothing.

    Raises:
        UserError: If the folder holds something else, or a benchmark with other data or settings.
    """
    before = load_study(study.folder)
    if before is not None:
        return _merge(before, study)
    refuse_foreign_folder(study.folder, "benchmark")
    return study


def _merge(before: Study, now: Study) -> Study:
    """Return the runs of both, which must rest on the same data and settings."""
    _refuse_other_settings(before, now)
    _refuse_other_data(before, now)
    return replace(
        now,
        trainers=list(dict.fromkeys([*before.trainers, *now.trainers])),
        configurations=list(dict.fromkeys([*before.configurations, *now.configurations])),
        seeds=list(dict.fromkeys([*before.seeds, *now.seeds])),
        folds={**before.folds, **now.folds},
        held_out={**before.held_out, **now.held_out},
    )


def _refuse_other_settings(before: Study, now: Study) -> None:
    old_content = before.to_json()
    new_content = now.to_json()
    for name in FIXED:
        old = old_content[name]
        new = new_content[name]
        if old != new:
            raise UserError(
                f"{now.folder} holds a benchmark with another {name}: {_difference(old, new)}. Its runs would not "
                "compare. Give the same options, or another --out."
            )


def _refuse_other_data(before: Study, now: Study) -> None:
    for index in before.folds.keys() & now.folds.keys():
        if before.folds[index].sha256 != now.folds[index].sha256:
            raise UserError(
                f"Fold {index} of {now.dataset} has changed since {now.folder} was begun. Restore {SPLITS_FILE}, or "
                "choose another --out."
            )
    if before.unlabeled != now.unlabeled:
        then = before.unlabeled.cases if before.unlabeled else "not written down"
        today = now.unlabeled.cases if now.unlabeled else "not looked at"
        raise UserError(
            f"imagesUl of {now.dataset} is not what it was when {now.folder} was begun (cases then: {then}, now: "
            f"{today}). Its runs would not compare. Restore the files, or choose another --out."
        )
    for name in before.held_out.keys() & now.held_out.keys():
        if before.held_out[name] != now.held_out[name]:
            raise UserError(
                f"The held-out cases ({name}) of {now.dataset} have changed since {now.folder} was begun: "
                f"{before.held_out[name].changes(now.held_out[name])}. Its runs would not compare. Restore the "
                "files, or choose another --out."
            )


def _difference(old: Any, new: Any) -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        names = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
        return ", ".join(f"{name} was {old.get(name)!r} and is {new.get(name)!r}" for name in names)
    return f"it was {old!r} and is {new!r}"


def choose_folds(
    dataset: PlannedDataset, labeled: Sequence[int] | None, folds: Sequence[int] | None
) -> dict[int, StudyFold]:
    """Return the folds to train on, with their label budgets.

    Args:
        dataset: The dataset.
        labeled: Label budgets, or ``None``.
        folds: Indices of folds, or ``None``. With neither, all folds are taken.

    Raises:
        UserError: If there is no such budget or fold, or a fold has no training or validation case.
    """
    path = dataset.preprocessed / SPLITS_FILE
    splits = load_splits(path)
    budgets = budgets_of(dataset, splits)
    chosen = list(range(len(splits)))
    if folds is not None:
        unknown = [fold for fold in folds if fold not in chosen]
        if unknown:
            raise UserError(f"--folds {_in_words(unknown)}: {path} has folds {_in_words(chosen)}.")
        chosen = list(dict.fromkeys(folds))
    if labeled is not None:
        unknown = [number for number in labeled if number not in budgets]
        if unknown:
            raise UserError(
                f"--labeled {_in_words(unknown)}: the folds of {path} have {_in_words(sorted(set(budgets)))} labeled "
                f"groups. Make others with: nnunet-semisam split -d {int(dataset.raw.name[7:10])} --labeled N ..."
            )
        chosen = [fold for fold in chosen if budgets[fold] in labeled]
    if not chosen:
        raise UserError(f"No fold of {path} has {_in_words(labeled or [])} labeled groups and is in --folds. Drop one.")
    for fold in chosen:
        if not splits[fold]["train"] or not splits[fold]["val"]:
            raise UserError(f"Fold {fold} of {path} lacks training or validation cases. Fix it, or leave it out.")
    return {fold: StudyFold(budgets[fold], split_digest(splits[fold])) for fold in chosen}


def budgets_of(dataset: PlannedDataset, splits: Sequence[Mapping[str, Sequence[str]]]) -> list[int]:
    """Return the number of labeled groups of every fold, counted in the folds themselves.

    Folds of a cross-validation are one budget, the rounded mean of theirs, though some may have a group more.
    """
    group_of = group_function(recorded_pattern(dataset.preprocessed, dataset.raw))
    counts = [len({group_of(case) for case in split["train"]}) for split in splits]
    return [round(sum(counts) / len(counts))] * len(counts) if is_cross_validation(splits) else counts


def is_cross_validation(splits: Sequence[Mapping[str, Sequence[str]]]) -> bool:
    """Return whether folds take turns: every fold has the same cases, and no case validates in two folds."""
    validating = [case for split in splits for case in split["val"]]
    together = {frozenset([*split["train"], *split["val"]]) for split in splits}
    return len(splits) > 1 and len(together) == 1 and len(set(validating)) == len(validating)


def split_digest(split: Mapping[str, Sequence[str]]) -> str:
    """Return a digest of which cases a fold trains on, validates on and hides the labels of."""
    content = {name: sorted(split.get(name, [])) for name in LISTS}
    return sha256_of_json(content)


def _in_words(things: Sequence[Any]) -> str:
    return " ".join(map(str, things)) or "none"
