"""An existing dataset as it lies on disk, and what its two layouts (nnU-Net's and the Decathlon's) have in common."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from nnunet_semisam.errors import UserError, name_some, shown
from nnunet_semisam.io.names import check_text_name
from nnunet_semisam.io.regular_files import check_regular_file

from .case import Source
from .listed_cases import check_left_out

REPLACED = ("channel_names", "labels", "numTraining", "file_ending", "converted_by", "dataset")  # in the new dataset
OF_MSD = ("modality", "training", "test", "tensorImageSize", "numTest")  # tell of the source's files alone
KINDS = {dict: "an object", str: "a text"}
MOST_LABEL = 2**15 - 1  # nnU-Net keeps segmentations as int16


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
    def image_paths(self) -> list[Path]:
        """Files of the channels, each once: they may share one."""
        return list(dict.fromkeys(source.path for source in self.images))

    @property
    def label_paths(self) -> list[Path]:
        """The file of the label, if there is one."""
        return [] if self.label is None else [self.label.path]


class Finding(NamedTuple):
    """A file that is missing, or belongs to nothing.

    Attributes:
        case: The case it stops; without the case, there is no finding.
        text: The sentence for the user.
    """

    case: str
    text: str

    @property
    def with_remedy(self) -> str:
        """Return the text for converters that can leave cases out."""
        return f"{self.text}, or go on without the case: --leave-out {shlex.quote(self.case)}"


@dataclass
class Owners:
    """Which case has which file, to tell files that two cases share.

    Attributes:
        by_name: Absolute path -> case, and ``image`` or ``label``.
        of_label: Absolute path of a label without links -> case.
        linked: Pairs of cases whose labels are one file by a link, as stores of equal files make them.
    """

    by_name: dict[str, tuple[str, str]] = field(default_factory=dict)
    of_label: dict[str, str] = field(default_factory=dict)
    linked: list[str] = field(default_factory=list)


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

    def find_wrong_files(self) -> None:
        """Add a finding for every listed file that is not there, has another ending, or belongs to two cases."""
        owners = Owners()
        for files in (self.train, self.unlabeled, self.test):
            for case, case_files in files.items():
                for kind, paths in (("image", case_files.image_paths), ("label", case_files.label_paths)):
                    for path in paths:
                        if self._find_wrong_file(case, path):
                            self._find_shared_file(case, kind, path, owners)
        if owners.linked:
            self.notes.append(
                f"{len(owners.linked)} labels are links to the label of another case: {name_some(owners.linked, 5)}"
            )

    def _find_wrong_file(self, case: str, path: Path) -> bool:
        if not os.path.lexists(path):
            self.find(case, f"{path}: is missing; {case} needs it. Add it")
            return False
        try:
            check_regular_file(path, "Replace it by the file itself")
        except UserError as error:
            self.find(case, str(error))
            return False
        if not path.name.lower().endswith(self.file_ending.lower()):
            self.find(case, f"{path}: must end in {self.file_ending}, the file_ending of dataset.json. Convert it")
        return True

    def _find_shared_file(self, case: str, kind: str, path: Path, owners: Owners) -> None:
        other, other_kind = owners.by_name.setdefault(os.path.abspath(path), (case, kind))
        if (other, other_kind) != (case, kind):
            self.find(
                case,
                f"{path}: is the {kind} of {case} and the {other_kind} of {other}. Correct the list of dataset.json",
            )
        elif kind == "label":
            other = owners.of_label.setdefault(os.path.realpath(path), case)
            if other != case:
                owners.linked.append(f"{case} and {other}")

    def find(self, case: str, text: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(case, text))

    def note_unlisted(self, part: str, listed: Collection[Path]) -> None:
        """Add a note about images that lie there and that the list of ``dataset.json`` does not name."""
        known = {os.path.abspath(path) for path in listed} | {os.path.realpath(path) for path in listed}
        there = visible_files(self.folder / f"images{part}", self.file_ending)
        unlisted = [path.name for path in there if not known & {os.path.abspath(path), os.path.realpath(path)}]
        if unlisted:
            self.notes.append(
                f"{len(unlisted)} images of images{part} are not listed in dataset.json and left out: "
                f"{name_some(unlisted)}"
            )

    def note_unused(self, beside: Iterable[Path] = ()) -> None:
        """Add a note about what lies in the folders and is no case's: other endings, folders below.

        Args:
            beside: Files that belong to cases though they have another ending.
        """
        used = {os.path.abspath(path) for path in beside}
        for name in ("imagesTr", "labelsTr", "imagesUl", "imagesTs", "labelsTs"):
            folder = self.folder / name
            unused = [
                path.name
                for path in (sorted(folder.iterdir()) if folder.is_dir() else [])
                if not path.name.startswith(".")
                and not path.name.endswith(self.file_ending)
                and os.path.abspath(path) not in used
            ]
            if unused:
                self.notes.append(
                    f"{len(unused)} files or folders of {name} do not end in {self.file_ending} and are not used: "
                    f"{name_some(unused, 5)}"
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
            f"{path} lacks {key!r}, got {shown(content.get(key))}. It must be {KINDS[kind]}, as in "
            "nnU-Net's dataset.json (version 2), or one of the Decathlon. Add the entry."
        )
    return content[key]


def further_entries(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of ``dataset.json`` that a new dataset keeps as they are."""
    return {key: value for key, value in content.items() if key not in (*REPLACED, *OF_MSD)}


def check_labels(path: Path, labels: Mapping[str, Any]) -> None:
    """Refuse labels that nnU-Net would not understand, or would not start to train on.

    Raises:
        UserError: If a name is none, there is no background 0, a value is no number, or the numbers have a gap.
    """
    for name in labels:
        check_text_name(name, "label", str(path), "Correct it.")
    values: list[Any] = []
    for entry_value in labels.values():
        values += entry_value if isinstance(entry_value, list) else [entry_value]
    if labels.get("background") != 0 or [] in labels.values() or not all(map(_is_label, values)):
        raise UserError(
            f'{path}: labels must be like {{"background": 0, "organ": 1}} (a list of numbers for a region), up to '
            f"{MOST_LABEL}, got {shown(dict(labels))}. Correct it."
        )
    missing = sorted(set(range(max(values) + 1)) - set(values))
    if missing:
        raise UserError(
            f"{path}: labels must count from 0 without a gap, or nnU-Net refuses them; no label has the value "
            f"{missing[0]}. Correct it."
        )
    of_value: dict[str, str] = {}
    for name, value in labels.items():
        other = of_value.setdefault(repr(value), name)
        if other != name:
            raise UserError(f"{path}: the labels {other} and {name} are both {shown(value)}. Correct or remove one.")


def _is_label(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_LABEL


def check_region_order(path: Path, labels: Mapping[str, Any], order: Any) -> None:
    """Refuse regions that nnU-Net's label manager refuses when it plans.

    Args:
        path: ``dataset.json``, for the error.
        labels: Checked labels.
        order: ``regions_class_order``.

    Raises:
        UserError: If there are regions and the order does not hold a label for each.
    """
    if not any(isinstance(value, list) and len(value) > 1 for value in labels.values()):
        return
    regions = [name for name, value in labels.items() if value not in (0, [0]) and name != "ignore"]
    if not isinstance(order, list) or len(order) != len(regions) or not all(map(_is_label, order)):
        raise UserError(
            f"{path}: regions need regions_class_order, a list of {len(regions)} labels, one for each of "
            f"{name_some(regions, 5)}; got {shown(order)}. Correct it."
        )
