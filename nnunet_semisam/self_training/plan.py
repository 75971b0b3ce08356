"""What a self-training is: fixed when it begins, on record in its folder, refused when it is started as another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from nnunet_semisam.checks.trainers import settings_of_trainer
from nnunet_semisam.data.datasets import PlannedDataset
from nnunet_semisam.data.raw_files import image_files, label_files
from nnunet_semisam.data.unlabeled_dataset import cases_in, unlabeled_folder
from nnunet_semisam.errors import UserError, name_some
from nnunet_semisam.io.begun_folders import load_begun, refuse_foreign_folder
from nnunet_semisam.io.hashes import sha256_of
from nnunet_semisam.io.json_files import write_json
from nnunet_semisam.io.locks import folder_lock
from nnunet_semisam.io.typed_records import Between, ClassName, Count, FileName, Share, read_record
from nnunet_semisam.jobs.nnunet_command import AUTO
from nnunet_semisam.splits.cases_of_fold import cases_of_fold

SOURCE = "the settings of the self-training"
PLAN_FILE = "self_training.json"
BASELINE = "nnUNetTrainerSupervised"
THRESHOLD = 0.7  # UPS, Rizve et al. 2021, section 4.1: positive pseudo-labels
GROWS = ("rounds", "select")


@dataclass(frozen=True)
class FoldCases:
    """The cases of a fold.

    Attributes:
        labeled: Cases that are trained on with their labels.
        val: Cases that nnU-Net validates on.
        hidden: Cases whose labels the fold hides: part of the pool.
        extra: Cases of ``imagesUl``: the other part of the pool.
    """

    labeled: list[FileName]
    val: list[FileName]
    hidden: list[FileName]
    extra: list[FileName]

    @property
    def pool(self) -> list[str]:
        """Cases that are to get pseudo-labels."""
        return sorted([*self.hidden, *self.extra])

    @property
    def with_labels(self) -> list[str]:
        """Cases whose labels may be opened: a validation case may be a labeled one, too."""
        return sorted({*self.labeled, *self.val})


@dataclass(frozen=True, kw_only=True)
class SelfTraining:
    """All trainings of a self-training, and what they share; plain data, so that it travels to another machine.

    Attributes:
        folder: Where everything is written; absolute.
        dataset: Name of the dataset.
        plans: Plans identifier.
        plans_sha256: Digest of the plans file.
        configuration: For example ``2d``.
        folds: Index in ``splits_final.json`` -> its cases.
        trainer: Class name of the first training, round 0.
        final_trainer: Class name of the trainings of all later rounds.
        settings: Of every training: flat settings by name, and blocks of settings by name.
        epochs: Epochs of each training, round 0 first; empty: those of the settings for each.
        rounds: How often the pool is labeled and trained on; there is one training more.
        threshold: Confidence below which a voxel of a pseudo-label becomes ``ignore``, in [0, 1].
        select: Share of the pool that is trained on in round 1, 2 and so on; the last one counts for all later ones.
        mirroring: Whether the teacher predicts with mirroring.
        sam: Whether SAMs take part in the labels of all rounds, where a calibration lets them.
        device: For nnU-Net's ``-device``; ``auto`` is found out where a task runs.
        environment: ``nnUNet_raw`` and ``nnUNet_preprocessed`` of the dataset, where they differ from this process's.
    """

    folder: Path
    dataset: FileName
    plans: FileName
    plans_sha256: str
    configuration: FileName
    folds: dict[int, FoldCases]
    trainer: ClassName
    final_trainer: ClassName
    settings: dict[str, Any]
    rounds: Annotated[int, Between(1, 100)]
    epochs: list[Count] = field(default_factory=list)
    threshold: Share = THRESHOLD
    select: list[Share] = field(default_factory=lambda: [1.0])
    mirroring: bool = True
    sam: bool = False
    device: str = field(default=AUTO, compare=False)
    environment: Mapping[str, str] = field(default_factory=dict, compare=False)

    def trainer_of(self, index: int) -> str:
        """Return the trainer of a round."""
        return self.trainer if index == 0 else self.final_trainer

    def settings_of(self, index: int) -> dict[str, Any]:
        """Return the settings of the training of a round."""
        length = {"num_epochs": self.epochs[index]} if self.epochs else {}
        return {**self.settings, **length}

    def share_of(self, index: int) -> float:
        """Return the share of the pool that a round trains on."""
        return self.select[min(index, len(self.select)) - 1]

    def to_json(self) -> dict[str, Any]:
        """Return all fields but those of this machine, ready for json."""
        content = asdict(self)
        for name in ("folder", "device", "environment"):
            del content[name]
        return content

    @classmethod
    def from_json(cls, folder: Path, content: Any) -> SelfTraining:
        """Return the self-training in ``folder``, of which :data:`PLAN_FILE` holds ``content``.

        Raises:
            RecordError: If the content is another.
        """
        return read_record(cls, content, "", folder=folder, device=AUTO, environment={})


def make_plan(
    dataset: PlannedDataset, plans: str, folds: Sequence[int], options: Mapping[str, Any], minimum: int = 1
) -> SelfTraining:
    """Return the self-training of some folds of a dataset.

    Args:
        dataset: The dataset.
        plans: Plans identifier.
        folds: Indices in ``splits_final.json``.
        options: All other fields; without ``sam``, or with ``None``, SAMs take part if the first training uses them.
        minimum: How many cases the pool of a fold must have.

    Raises:
        UserError: If a fold cannot be used, or there is no pool.
    """
    cases = {fold: _cases(dataset, fold, options["configuration"], minimum) for fold in sorted(folds)}
    sam = options.get("sam")
    if sam is None:
        sam = settings_of_trainer(options["trainer"], options["settings"], SOURCE).run.use_sam
    return SelfTraining(
        dataset=dataset.raw.name,
        plans=plans,
        plans_sha256=sha256_of(dataset.preprocessed / f"{plans}.json"),
        folds=cases,
        **{**options, "sam": sam},
    )


def _cases(dataset: PlannedDataset, fold: int, configuration: str, minimum: int) -> FoldCases:
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    dataset.check_configuration(configuration)
    manager = PlansManager(dataset.plans).get_configuration(configuration)
    if manager.previous_stage_name is not None:
        raise UserError(
            f"{configuration} needs the predictions of {manager.previous_stage_name}, made for labeled cases "
            "only. Choose a configuration without a previous stage."
        )
    folder = dataset.preprocessed / manager.data_identifier
    found = cases_of_fold(dataset.preprocessed, folder, fold, manager, print)
    extra = cases_in(unlabeled_folder(dataset.preprocessed, manager.data_identifier))
    cases = FoldCases(sorted(found.train), sorted(found.val), sorted(found.unlabeled), extra)
    both = sorted(set(extra) & {*cases.with_labels, *cases.hidden})
    if both:
        raise UserError(f"{name_some(both, 5)}: in imagesUl and in fold {fold}. A case may be in one place only.")
    if len(cases.pool) < minimum:
        raise UserError(
            f"Fold {fold} of {dataset.raw.name} has no case without label: no 'unlabeled' list, and no image of "
            "imagesUl that is preprocessed (nnunet-semisam preprocess). There is nothing to train itself on."
        )
    images, labels = image_files(dataset.raw, dataset.dataset_json), label_files(dataset.raw, dataset.dataset_json)
    lost = [case for case in (*cases.with_labels, *cases.hidden) if case not in images["Tr"]]
    lost += [case for case in cases.extra if case not in images["Ul"]]
    lost += [case for case in cases.with_labels if case not in labels]
    if lost:
        raise UserError(f"{dataset.raw} lacks image or label of {name_some(lost, 5)}. Add the files, or fix the fold.")
    return cases


def load_plan(folder: Path) -> SelfTraining | None:
    """Return the self-training that was begun in a folder, or ``None``.

    Raises:
        UserError: If its record cannot be read.
    """
    return load_begun(folder / PLAN_FILE, lambda content: SelfTraining.from_json(folder, content))


def begin(plan: SelfTraining) -> None:
    """Write a self-training to its folder, or check that it is the one that was begun there; rounds may be added.

    Raises:
        UserError: If the folder holds something else, or a self-training with other data or options.
    """
    refuse_other_plan(plan)
    with folder_lock(plan.folder, wait=True):
        before = refuse_other_plan(plan)
        if before is None or before.rounds < plan.rounds:
            write_json(plan.folder / PLAN_FILE, plan.to_json())


def refuse_other_plan(plan: SelfTraining) -> SelfTraining | None:
    """Return the self-training that was begun in the folder of this one; write nothing.

    Raises:
        UserError: If the folder holds something else, or a self-training with other data or options.
    """
    before = load_plan(plan.folder)
    if before is None:
        refuse_foreign_folder(plan.folder, "self-training")
        return None
    old, new = before.to_json(), plan.to_json()
    for name in old:
        if name not in GROWS and old[name] != new[name]:
            raise UserError(
                f"{plan.folder} holds a self-training with another {name}{_difference(old[name], new[name])}. Its "
                "rounds would not fit together. Give the same options, or another --out."
            )
    if any(before.share_of(index) != plan.share_of(index) for index in range(1, before.rounds + 1)):
        raise UserError(f"{plan.folder} was begun with --select {before.select}. Give the same, or another --out.")
    return before


def _difference(old: Any, new: Any) -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        names = [str(name) for name in {*old, *new} if old.get(name) != new.get(name)]
        return f" ({', '.join(sorted(names))})"
    return f": it was {old!r} and is {new!r}"


def equal_parts(total: int, trainings: int) -> list[int]:
    """Return how many epochs each training gets of a total; the last one takes what is left over.

    Example:
        >>> equal_parts(20, 3)
        [6, 6, 8]
    """
    part = total // trainings
    return [*[part] * (trainings - 1), total - part * (trainings - 1)]
