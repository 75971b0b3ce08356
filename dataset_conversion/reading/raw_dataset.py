"""An existing dataset as it lies on disk, and what its two layouts (nnU-Net's and the Decathlon's) have in common."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from nnunet_semisam.errors import UserError, name_some

from .case import Source
from .listed_cases import check_left_out

REPLACED = ("channel_names", "labels", "numTraining", "file_ending", "converted_by", "dataset")  # in the new dataset
OF_MSD = ("modality", "training", "test", "tensorImageSize", "numTest")  # tell of the source's files alone
KINDS = {dict: "an object", str: "a text"}
MOST_SHOWN = 100  # characters of a wrong entry


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case.

    Attributes:
        images: Of all channels, in their order.
        label: ``None`` if there is none.
    """

    images: tuple[Source, ...]
    label: Source | None = None

    @property
    def paths(self) -> list[Path]:
        """All files, each once: channels may share one."""
        sources = self.images if self.label is None else (*self.images, self.label)
        return list(dict.fromkeys(source.path for source in sources))


class Finding(NamedTuple):
    """A file that is missing, or belongs to nothing.

    Attributes:
        case: The case it stops; without the case, there is no finding.
        text: The sentence for the user.
    """

    case: str
    text: str


@dataclass
class RawDataset:
    """The files of an existing dataset.

    Attributes:
        folder: Where it is.
        channel_names: As in nnU-Net's ``dataset.json``.
        labels: As in nnU-Net's ``dataset.json``.
        file_ending: Of images and labels.
        more_json: Further entries of ``dataset.json`` that must be kept, such as the order of regions.
        train: Case -> files with a label.
        unlabeled: Case -> files of imagesUl.
        test: Case -> files of imagesTs; with a label where there is one.
        bare: Cases of imagesTr without a label file; they are in ``unlabeled``, too.
        findings: What stops the conversion.
        notes: What the user should know, such as test images that are listed and not there.
    """

    folder: Path
    channel_names: dict[str, str]
    labels: dict[str, int | list[int]]
    file_ending: str
    more_json: dict[str, Any]
    train: dict[str, CaseFiles] = field(default_factory=dict)
    unlabeled: dict[str, CaseFiles] = field(default_factory=dict)
    test: dict[str, CaseFiles] = field(default_factory=dict)
    bare: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def leave_out(self, names: Sequence[str]) -> list[str]:
        """Remove cases, and what was found about them, and return their names, sorted.

        Raises:
            UserError: If one of them does not exist.
        """
        parts = (self.train, self.unlabeled, self.test)
        known = {finding.case for finding in self.findings}.union(*parts)
        left_out = check_left_out(names, known, self.folder)
        for files in parts:
            for case in left_out:
                files.pop(case, None)
        self.bare = [case for case in self.bare if case not in left_out]
        self.findings = [finding for finding in self.findings if finding.case not in left_out]
        return left_out

    def find_missing_files(self) -> None:
        """Add a finding for every file that a list names and that is not there."""
        for files in (self.train, self.unlabeled, self.test):
            for case, case_files in files.items():
                for path in case_files.paths:
                    if not path.is_file():
                        self.find(case, f"{path}: is missing; {case} needs it. Add it")

    def find(self, case: str, text: str) -> None:
        """Add a finding; the way to go on without the case is added to the text."""
        self.findings.append(Finding(case, f"{text}, or go on without the case: --leave-out {case}"))

    def note_unlisted(self, part: str, listed: Collection[Path]) -> None:
        """Add a note about images that lie there and that the list of ``dataset.json`` does not name."""
        known = {path.resolve() for path in listed}
        there = visible_files(self.folder / f"images{part}", self.file_ending)
        unlisted = [path.name for path in there if path.resolve() not in known]
        if unlisted:
            self.notes.append(
                f"{len(unlisted)} images of images{part} are not listed in dataset.json and left out: "
                f"{name_some(unlisted)}"
            )


def visible_files(folder: Path, ending: str) -> list[Path]:
    """Return the files of a folder with an ending, sorted; hidden ones are junk of a Mac (``._name``)."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in files if path.name.endswith(ending) and not path.name.startswith(".")]


def entry(path: Path, content: Mapping[str, Any], key: str, kind: type) -> Any:
    """Return an entry of ``dataset.json``.

    Args:
        path: The file.
        content: What it holds.
        key: Name of the entry.
        kind: The type it must have, ``dict`` or ``str``.

    Raises:
        UserError: If it is absent, empty, or of another type.
    """
    if not isinstance(content.get(key), kind) or not content[key]:
        raise UserError(
            f"{path} lacks {key!r}, got {repr(content.get(key))[:MOST_SHOWN]}. It must be {KINDS[kind]}, as in "
            "nnU-Net's dataset.json (version 2), or one of the Decathlon. Add the entry."
        )
    return content[key]


def further_entries(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of ``dataset.json`` that a new dataset keeps as they are."""
    return {key: value for key, value in content.items() if key not in (*REPLACED, *OF_MSD)}


def check_labels(path: Path, labels: Mapping[str, Any]) -> None:
    """Refuse labels that nnU-Net would not understand.

    Raises:
        UserError: If there is no background 0, or a value is no number.
    """
    values: list[Any] = []
    for entry_value in labels.values():
        values += entry_value if isinstance(entry_value, list) else [entry_value]
    if labels.get("background") != 0 or not all(isinstance(value, int) for value in values):
        raise UserError(
            f'{path}: labels must be like {{"background": 0, "organ": 1}} (a list of numbers for a region), got '
            f"{dict(labels)}. Correct it."
        )
