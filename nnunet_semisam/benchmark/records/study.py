"""What all runs of a benchmark share: folds, unlabeled images, and the cases that judge."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from nnunet_semisam.errors import name_some
from nnunet_semisam.io.typed_records import Count, FileName, InnerPath, Name, RecordError, read_record, read_value


class Equal(str, Enum):
    """What the trainers of a benchmark have in common."""

    STEPS = "steps"
    TIME = "time"


class CaseSet(str, Enum):
    """Which cases the runs are evaluated on."""

    TEST = "test"
    """Those of ``imagesTs``."""
    VAL = "val"
    """The validation cases of each run's fold."""


@dataclass(frozen=True)
class StudyFold:
    """A fold that a benchmark trains on.

    Attributes:
        budget: Number of labeled groups (patients).
        sha256: Digest of which cases it trains on, validates on and hides the labels of.
    """

    budget: Count
    sha256: str


@dataclass(frozen=True)
class UnlabeledImages:
    """The images of ``imagesUl`` when a benchmark was begun.

    Attributes:
        cases: How many there were.
        sha256: Digest of their names.
    """

    cases: Count
    sha256: str


@dataclass(frozen=True)
class HeldOutSet:
    """A set of cases that a benchmark is evaluated on, as it was when the benchmark was begun.

    Attributes:
        digests: Case -> digest of its images and its label.
    """

    digests: dict[FileName, str]

    def changes(self, now: HeldOutSet) -> str:
        """Return in words how a later set differs."""
        old, new = self.digests, now.digests
        lists = {
            "new": sorted(new.keys() - old.keys()),
            "gone": sorted(old.keys() - new.keys()),
            "other files": sorted(case for case in old.keys() & new.keys() if old[case] != new[case]),
        }
        return "; ".join(f"{name}: {name_some(cases)}" for name, cases in lists.items() if cases)


@dataclass(frozen=True)
class HeldOutCases:
    """Which cases the runs are evaluated on.

    Attributes:
        kind: Test or validation cases.
        folders: Fold -> folder with their images and labels, relative to the benchmark's.
        groups: Case -> its group (patient).
    """

    kind: CaseSet
    folders: dict[int, InnerPath]
    groups: dict[FileName, Name]

    def to_json(self) -> dict[str, Any]:
        """Return all fields."""
        return {"kind": self.kind, "folder": self.folders, "groups": self.groups}

    @classmethod
    def from_json(cls, content: Any, place: str = "") -> HeldOutCases:
        """Return the cases of an object of ``results.json``."""
        fields_of = read_value(dict[str, object], content, place)
        if "folder" not in fields_of:
            raise RecordError(f"{place} lacks 'folder'.")
        folders = read_value(dict[int, InnerPath], fields_of["folder"], f"{place}.folder")
        return read_record(cls, content, place, folders=folders)
