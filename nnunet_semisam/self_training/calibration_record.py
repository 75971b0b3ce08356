"""The record of where SAMs help the teacher of a round: ``sam_calibration.json``."""

from __future__ import annotations

from dataclasses import dataclass

from nnunet_semisam.io.json_files import object_or_none
from nnunet_semisam.io.typed_records import FileName, Name, RecordError, Share, read_record
from nnunet_semisam.pseudo_labels.calibration_table import CalibrationTable
from nnunet_semisam.pseudo_labels.round_log import ClassRecord
from nnunet_semisam.self_training.rounds import RoundOfFold

CALIBRATION_FILE = "sam_calibration.json"


@dataclass(frozen=True)
class RoundCalibration:
    """Where SAMs help the teacher of a round.

    Attributes:
        checkpoint_sha256: Digest of the teacher's checkpoint.
        cases: The labeled cases of the fold.
        models: Names of the generalists in the settings.
        fingerprints: Generalist -> digest of its SAM's weights, adapter included.
        settings_sha256: Digest of the settings of the stage.
        estimated_dice: Dice that the simulated error is as large as, in [0, 1]; ``None`` if the teacher finds no class
            in unlabeled images: there is nothing to prompt with, and nothing was measured.
        generalists: Names of all that were measured; a model has one for each prompt strategy.
        classes: One entry per generalist and foreground class; empty if nothing was measured.
    """

    checkpoint_sha256: str
    cases: list[FileName]
    models: list[Name]
    fingerprints: dict[Name, str]
    settings_sha256: str
    estimated_dice: Share | None
    generalists: tuple[Name, ...]
    classes: tuple[ClassRecord, ...]

    @property
    def table(self) -> CalibrationTable:
        """Return what was measured."""
        return CalibrationTable(self.generalists, self.classes)

    @property
    def active(self) -> bool:
        """Return whether any generalist helps in any class."""
        return self.estimated_dice is not None and self.table.active

    @property
    def class_weights(self) -> dict[str, dict[str, float]]:
        """Return generalist -> class -> its weight; 0: the teacher labels the class alone."""
        found: dict[str, dict[str, float]] = {name: {} for name in self.generalists}
        for entry in self.classes:
            found[entry.generalist][entry.name] = entry.weight
        return found


def read_calibration(place: RoundOfFold) -> RoundCalibration | None:
    """Return the calibration of a round; ``None`` if it is not there, or torn."""
    content = object_or_none(place.folder / CALIBRATION_FILE)
    try:
        return None if content is None else read_record(RoundCalibration, content, "")
    except RecordError:
        return None
