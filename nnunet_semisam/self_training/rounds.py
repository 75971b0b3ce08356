"""The folders of a self-training, and the records in them.

=========================================  ===============================================================
``self_training.json``                     the plan
``round_R/results/``                       ``nnUNet_results`` of a round: models of all its folds
``round_R/fold_F/``                        the training of a fold (see ``runs/model_run.py``)
``round_R/fold_F/sam_calibration.json``    where SAMs help the teacher, if they are asked
``round_R/fold_F/labels/``                 pseudo-labels of the pool, and a record of each
``round_R/fold_F/data/nnUNet_raw/``        the dataset that a round trains on; not in round 0
``round_R/fold_F/data/nnUNet_preprocessed/``
``round_R/fold_F/data/provenance.json``    where every label of it is from
``round_R/fold_F/label_I_of_N/``, build/,  logs, time and memory of these commands
calibrate_sam/
=========================================  ===============================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nnunet_semisam.errors import UserError
from nnunet_semisam.io.json_files import object_or_none, read_object
from nnunet_semisam.io.typed_records import Count, FileName, Name, RecordError, Share, read_record
from nnunet_semisam.runs.model_run import ModelRun
from nnunet_semisam.self_training.plan import SelfTraining, load_plan

PROVENANCE_FILE = "provenance.json"
REMEDY = "Delete it and start again: the case is labeled again."


@dataclass(frozen=True)
class SAMUse:
    """Which SAMs took part in a pseudo-label, and how much.

    Attributes:
        models: Names of the generalists in the settings.
        fingerprints: Generalist -> digest of its SAM's weights, adapter included.
        class_weights: Generalist -> class -> share in the fused probability; 0: the teacher labels the class alone.
            Empty if nothing was measured.
        confidence_threshold: Confidence below which a voxel of the fused label is ignored.
        calibration_sha256: Digest of the file with the calibration.
    """

    models: list[Name]
    fingerprints: dict[Name, str]
    class_weights: dict[Name, dict[Name, Share]]
    confidence_threshold: Share
    calibration_sha256: str


@dataclass(frozen=True)
class PseudoLabel:
    """Where a pseudo-label is from, and how good it may be: ``labels/CASE.json``.

    Attributes:
        case: Name of the case.
        round: Round that trains on it; the teacher is of the round before.
        teacher: Class name of the teacher's trainer.
        checkpoint_sha256: Digest of the teacher's checkpoint.
        mirroring: Whether the teacher predicted with mirroring.
        threshold: Confidence of the teacher below which a voxel is ignored.
        agreement: Mean Dice between the predictions with and without mirroring, at the spacing of the plans; ``None``
            without mirroring, or if both are background only.
        confidence: Mean certainty of the voxels that are predicted as foreground; ``None`` if there is none.
        voxels: Name of a label value, ``ignore`` for the ignore label -> how many voxels of it.
        sha256: Digest of the label's file.
        sam: Which SAMs were asked; ``None``: the self-training asks none.
    """

    case: FileName
    round: Count
    teacher: Name
    checkpoint_sha256: str
    mirroring: bool
    threshold: Share
    agreement: Share | None
    confidence: Share | None
    voxels: dict[Name, Count]
    sha256: str
    sam: SAMUse | None = None

    @property
    def labeled_share(self) -> float:
        """Share of voxels with a label, in [0, 1]."""
        everything = sum(self.voxels.values())
        return 1 - self.voxels.get("ignore", 0) / everything if everything else 0.0

    @property
    def quality(self) -> float | None:
        """What cases are chosen by: the agreement or, without mirroring, the confidence."""
        return self.agreement if self.mirroring else self.confidence


@dataclass(frozen=True)
class RoundOfFold:
    """The round of a fold: its places, its model.

    Attributes:
        plan: The self-training.
        index: Number of the round; 0 is the first training, without pseudo-labels.
        fold: Index of the fold.
    """

    plan: SelfTraining
    index: int
    fold: int

    @property
    def name(self) -> str:
        """Name for messages."""
        return f"round {self.index} fold {self.fold}"

    @property
    def folder(self) -> Path:
        """Folder of the training."""
        return self.plan.folder / f"round_{self.index}" / f"fold_{self.fold}"

    @property
    def labels(self) -> Path:
        """Folder with pseudo-labels and their records."""
        return self.folder / "labels"

    @property
    def data(self) -> Path:
        """Folder of the dataset that this round trains on; there as soon as it is complete."""
        return self.folder / "data"

    @property
    def environment(self) -> dict[str, str]:
        """Return nnU-Net's variables of the data that this round trains on."""
        if self.index == 0:
            return dict(self.plan.environment)
        return {name: str(self.data / name) for name in ("nnUNet_raw", "nnUNet_preprocessed")}

    @property
    def model(self) -> ModelRun:
        """The model of this round."""
        plan = self.plan
        return ModelRun(
            folder=self.folder,
            dataset=plan.dataset,
            trainer=plan.trainer_of(self.index),
            plans=plan.plans,
            configuration=plan.configuration,
            fold=self.fold,
            device=plan.device,
            shared_results=self.folder.parent / "results",
            environment=self.environment,
        )

    def before(self) -> RoundOfFold:
        """Return the round whose model is the teacher of this one."""
        return RoundOfFold(self.plan, self.index - 1, self.fold)

    def label_file(self, case: str, ending: str) -> Path:
        """Return the file of a pseudo-label."""
        return self.labels / f"{case}{ending}"

    def is_labeled(self, case: str) -> bool:
        """Return whether a case has its pseudo-label: the record is written after the label."""
        content = object_or_none(self.labels / f"{case}.json")
        try:
            return content is not None and read_record(PseudoLabel, content, "").case == case
        except RecordError:
            return False

    def pseudo_label(self, case: str) -> PseudoLabel:
        """Return the record of a pseudo-label.

        Raises:
            UserError: If it is missing or damaged.
        """
        path = self.labels / f"{case}.json"
        content = read_object(path, REMEDY)
        try:
            return read_record(PseudoLabel, content, "")
        except RecordError as error:
            raise UserError(f"{path} cannot be read: {error} {REMEDY}") from error


def read_place(folder: str, index: str, fold: str) -> RoundOfFold:
    """Return the round of a fold that a command was given.

    Raises:
        UserError: If there is no self-training in the folder.
    """
    plan = load_plan(Path(folder))
    if plan is None:
        raise UserError(f"{folder} holds no self-training. Start it with: nnunet-semisam self-train")
    return RoundOfFold(plan, int(index), int(fold))


def models_of(plan: SelfTraining) -> list[ModelRun]:
    """Return the models of all rounds and folds."""
    return [RoundOfFold(plan, index, fold).model for index in range(plan.rounds + 1) for fold in plan.folds]


def final_models(plan: SelfTraining) -> Mapping[int, ModelRun]:
    """Return fold -> the model that a self-training ends with."""
    return {fold: RoundOfFold(plan, plan.rounds, fold).model for fold in plan.folds}
