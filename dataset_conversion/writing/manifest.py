"""``semisam_manifest.json``: what a dataset was made from and what is in it, so that two of them can be compared."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from nnunet_semisam import __version__
from nnunet_semisam.errors import UserError, printable
from nnunet_semisam.io.hashes import sha256_of, sha256_of_json
from nnunet_semisam.io.json_files import read_object
from nnunet_semisam.splits.folds import Split
from nnunet_semisam.splits.label_budgets import MANIFEST_FILE, Grouping

from ..reading.case import Conversion
from ..reading.facts import Facts
from .checks import Inspection
from .parallel import in_threads

MOST_SHOWN = 5
MOST_NAME = 255  # characters of a file of the dataset, with its folder


@dataclass(frozen=True)
class SourceFile:
    """Where a file of the dataset comes from.

    Attributes:
        source: The source file, relative to the folder of the raw data.
        sha256: Of its content.
    """

    source: str
    sha256: str


@dataclass(frozen=True)
class PlannedContent:
    """What makes two conversions the same.

    Attributes:
        converter: Name of the conversion.
        settings: What the user chose, resolved.
        dataset: Content of ``dataset.json``.
        splits: Folds.
        grouping: Which group is labeled first, and which groups validate.
        test_sets: Name -> cases.
        sources: File of the dataset -> where it comes from, sorted.
    """

    converter: str
    settings: Mapping[str, Any]
    dataset: Mapping[str, Any]
    splits: Sequence[Split]
    grouping: Grouping
    test_sets: Mapping[str, list[str]]
    sources: Mapping[str, SourceFile]


@dataclass(frozen=True)
class Manifest:
    """A dataset that was checked and written.

    Attributes:
        planned: What it was made from.
        fingerprint: One hash of all voxels, labels and folds.
        notes: Sentences that the user was told.
        images: File of the dataset -> facts of its voxels.
        files: File of the dataset -> SHA-256 of its content.
    """

    planned: PlannedContent
    fingerprint: str
    notes: Sequence[str]
    images: Mapping[str, Facts]
    files: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """Return the content of ``semisam_manifest.json``."""
        return {
            **asdict(self.planned),
            "fingerprint": self.fingerprint,
            "notes": list(self.notes),
            "images": {target: asdict(self.images[target]) for target in sorted(self.images)},
            "files": dict(self.files),
            "nnunet_semisam": __version__,
        }


@dataclass(frozen=True)
class Outcome:
    """What a manifest tells the user, whether it was just written or found.

    Attributes:
        notes: Sentences the user should read.
        fingerprint: One hash of all voxels, labels and folds.
    """

    notes: Sequence[str]
    fingerprint: str


def dataset_json(conversion: Conversion) -> dict[str, Any]:
    """Return the content of nnU-Net's ``dataset.json``."""
    return {
        **conversion.more_json,
        "channel_names": conversion.channel_names,
        "labels": conversion.labels,
        "numTraining": len(conversion.of_part("Tr")),
        "file_ending": conversion.file_ending,
        "converted_by": "nnunet-semisam",
    }


def plan_content(conversion: Conversion, workers: int) -> PlannedContent:
    """Return what a conversion would make, with the hash of every source file.

    Args:
        conversion: What is planned.
        workers: How many files are read at the same time.

    Raises:
        UserError: If a source file cannot be read.
    """
    paths = conversion.paths_of_targets()
    once = sorted(set(paths.values()))  # channels may share a file
    digests = digests_of(once, workers, "hashing")
    sources = {
        target: SourceFile(Path(os.path.relpath(paths[target], conversion.source)).as_posix(), digests[paths[target]])
        for target in sorted(paths)
    }
    return PlannedContent(
        converter=conversion.name,
        settings=conversion.settings,
        dataset=dataset_json(conversion),
        splits=conversion.splits,
        grouping=conversion.grouping,
        test_sets=conversion.test_sets,
        sources=sources,
    )


def make_manifest(
    conversion: Conversion, planned: PlannedContent, inspection: Inspection, files: Mapping[str, str]
) -> Manifest:
    """Return the manifest of a dataset.

    Args:
        conversion: What was written.
        planned: What it was made from.
        inspection: What reading all files has shown.
        files: File of the dataset -> SHA-256.
    """
    return Manifest(
        planned=planned,
        fingerprint=fingerprint(inspection.facts, planned.dataset, planned.splits),
        notes=[*conversion.notes, *inspection.notes],
        images=inspection.facts,
        files=files,
    )


def fingerprint(facts: Mapping[str, Facts], dataset: Mapping[str, Any], splits: Sequence[Split]) -> str:
    """Return one hash of a whole dataset: voxels, spacing, labels and folds.

    It does not depend on file names of the source, on compression, or on the dataset id, so two people can compare it.
    """
    files = {}
    for target, each in facts.items():
        files[target] = [each.voxels, [round(value, 4) for value in each.spacing]]
    return sha256_of_json(
        {
            "files": files,
            "labels": dataset["labels"],
            "channel_names": dataset["channel_names"],
            "splits": list(splits),
        }
    )


def compare_existing(folder: Path, planned: PlannedContent, workers: int) -> Outcome:
    """Accept a folder that an identical conversion made, and nothing else.

    Args:
        folder: The folder that is there.
        planned: What the conversion would make.
        workers: How many files are read at the same time.

    Returns:
        What its manifest tells.

    Raises:
        UserError: If the folder was made by something else, from other data or settings, or was changed since.
    """
    way_out = f"Choose another id with -d, or move {folder} away and run this again."
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise UserError(f"{folder} exists and was not made by this command. {way_out}")
    recorded = read_object(path, way_out)
    expected = asdict(planned)
    for key in (*expected, "fingerprint", "notes", "files"):
        if key not in recorded:
            raise UserError(f"{path} lacks {key!r}, so it cannot be told whether this is the same dataset. {way_out}")
    _check_recorded(path, recorded, way_out)
    for key, value in expected.items():
        if recorded[key] != value:
            raise UserError(
                f"{folder} exists with other content: its {key} differ. {_difference(recorded[key], value)}{way_out}"
            )
    changed = _changed_files(folder, recorded["files"], workers)
    if changed:
        raise UserError(
            f"{folder} was changed after it was made ({len(changed)} files: {_first_of(changed)}). {way_out}"
        )
    return Outcome(recorded["notes"], recorded["fingerprint"])


def _check_recorded(path: Path, recorded: Mapping[str, Any], way_out: str) -> None:
    """Refuse a manifest that no run of ours wrote: its texts are printed, and its names are opened."""
    files, notes = recorded["files"], recorded["notes"]
    whole = (
        isinstance(files, dict)
        and all(_is_inside(name) and isinstance(digest, str) for name, digest in files.items())
        and isinstance(notes, list)
        and all(isinstance(note, str) for note in notes)
        and isinstance(recorded["fingerprint"], str)
    )
    if not whole:
        raise UserError(f"{path} is damaged: its files, notes or fingerprint are not as they were written. {way_out}")


def _is_inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    short = len(name) <= MOST_NAME
    return bool(parts) and short and "\0" not in name and ".." not in parts and not name.startswith("/")


def digests_of(paths: Sequence[Path], workers: int, text: str) -> dict[Path, str]:
    """Return file -> SHA-256 of its content.

    Args:
        paths: The files.
        workers: How many are read at the same time.
        text: What the progress bar says.

    Raises:
        UserError: If a file cannot be read.
    """
    return dict(zip(paths, in_threads(_digest_of, paths, workers, text), strict=True))


def _digest_of(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error}). Fix its link or permissions, and run this again.") from error


def _changed_files(folder: Path, written: Mapping[str, str], workers: int) -> list[str]:
    there = [folder / name for name in written if (folder / name).is_file()]
    digests = digests_of(there, workers, "comparing")
    return [name for name, digest in written.items() if digests.get(folder / name) != digest]


def _difference(found: Any, planned: Any) -> str:
    """Return the entries in which two objects differ, in brackets; nothing for other values."""
    if not isinstance(found, dict) or not isinstance(planned, dict):
        return ""
    keys = [key for key in sorted({*found, *planned}) if found.get(key) != planned.get(key)]
    return f"({_first_of(keys)}) "


def _first_of(names: Sequence[str]) -> str:
    return ", ".join(map(printable, names[:MOST_SHOWN])) + (", ..." if len(names) > MOST_SHOWN else "")
