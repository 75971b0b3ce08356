"""What an export of pseudo-labels says about itself: ``export.json`` and ``records/CASE.json``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from nnunet_semisam.errors import UserError
from nnunet_semisam.io.json_files import read_object, write_json
from nnunet_semisam.io.typed_records import FileName, Name, RecordError, Share, read_record

REMEDY = "Export the pseudo-labels again into an empty folder."


@dataclass(frozen=True)
class ExportRecord:
    """Where pseudo-labels are from.

    Attributes:
        dataset: Name of the dataset.
        fold: Fold whose unlabeled cases they are of.
        model: Folder name of the model.
        checkpoints: SHA-256 of the checkpoints.
        source: ``model``, with or without mirroring, or the round of the pseudo-label stage.
        train: Labeled training cases of the fold.
        val: Validation cases of the fold.
        labels: Label value -> name.
    """

    dataset: FileName
    fold: FileName
    model: FileName
    checkpoints: str
    source: str
    train: list[FileName]
    val: list[FileName]
    labels: dict[str, Name]

    @staticmethod
    def file(folder: Path) -> Path:
        """Return the file of an export's record."""
        return folder / "export.json"

    @property
    def values(self) -> set[int]:
        """Return the values that a corrected label may have."""
        return {int(value) for value in self.labels}


@dataclass(frozen=True)
class CaseRecord:
    """One exported case.

    Attributes:
        case: Its name.
        images: SHA-256 of each image file of the dataset.
        label: SHA-256 of the exported pseudo-label.
        confidence: Mean confidence of its foreground, in [0, 1]; ``None`` if there is none.
    """

    case: FileName
    images: list[str]
    label: str
    confidence: Share | None

    @staticmethod
    def file(folder: Path, case: str) -> Path:
        """Return the file of a case's record."""
        return folder / "records" / f"{case}.json"

    def write(self, folder: Path) -> None:
        """Write the record into an export."""
        write_json(self.file(folder, self.case), asdict(self))


def exported_cases(folder: Path) -> set[str]:
    """Return the cases of an export, whose records say what was written."""
    return {file.stem for file in (folder / "records").glob("*.json") if not file.name.startswith(".")}


def write_export(folder: Path, record: ExportRecord) -> None:
    """Write ``export.json``."""
    write_json(ExportRecord.file(folder), asdict(record))


def read_export(folder: Path) -> ExportRecord:
    """Return what ``export.json`` says.

    Raises:
        UserError: If it is missing or damaged.
    """
    file = ExportRecord.file(folder)
    if not file.is_file():
        raise UserError(
            f"{folder} holds no exported pseudo-labels: it lacks {file.name}. Name the folder of an export."
        )
    try:
        record = read_record(ExportRecord, read_object(file, REMEDY), f"{file}:")
    except RecordError as error:
        raise UserError(f"{error} {REMEDY}") from error
    if not all(value.isdigit() for value in record.labels):
        raise UserError(f"{file}: labels must be numbers with names. {REMEDY}")
    return record


def read_case(folder: Path, case: str) -> CaseRecord:
    """Return the record of an exported case.

    Raises:
        UserError: If it is missing or damaged.
    """
    file = CaseRecord.file(folder, case)
    if not file.is_file():
        raise UserError(f"{folder} has no record of {case}: its export was interrupted. Run the export again.")
    try:
        return read_record(CaseRecord, read_object(file, REMEDY), f"{file}:")
    except RecordError as error:
        raise UserError(f"{error} {REMEDY}") from error
