"""What every dataset converter is made of: its cases, its plan and its registry.

A converter only says which file is which case (:meth:`DatasetConverter.plan`). Checking (``checks.py``) and writing
(``writer.py``) are the same for all. Modules here load numpy and SimpleITK inside functions: the console lists the
converters without them.
"""

from __future__ import annotations

import argparse
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nnunet_semisam.errors import UserError
from nnunet_semisam.registry import Registry

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813  SimpleITK's own documentation calls it so

    from .writer import Result

PARTS = ("Tr", "Ul", "Ts")

CONVERTERS: Registry[DatasetConverter] = Registry("dataset converter")


@dataclass(frozen=True)
class Case:
    """One case and where it goes.

    Attributes:
        identifier: nnU-Net's case identifier.
        images: Source file of every channel.
        label: Source file of the label; ``None`` if there is none or nobody may see it.
        part: ``Tr`` (imagesTr, labelsTr), ``Ul`` (imagesUl) or ``Ts`` (imagesTs, and labelsTs if there is a label).
    """

    identifier: str
    images: tuple[Path, ...]
    label: Path | None
    part: str

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise ValueError(f"The part of {self.identifier} must be one of {PARTS}, got {self.part!r}.")
        if (self.part == "Ul" and self.label is not None) or (self.part == "Tr" and self.label is None):
            raise ValueError(f"{self.identifier}: Tr cases have a label, Ul cases have none, got {self.label}.")

    @property
    def sources(self) -> tuple[Path, ...]:
        """All files that are read for this case."""
        return self.images if self.label is None else (*self.images, self.label)


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """All that is needed to write a raw dataset.

    Attributes:
        source: Folder the data come from; the manifest names files relative to it.
        cases: Cases of all parts.
        channel_names: nnU-Net's ``channel_names``; they choose the normalisation.
        labels: nnU-Net's ``labels``: name -> value.
        splits: Folds of ``splits_final.json``.
        budgets: Per fold, how many labeled groups (patients) it trains on, and which.
        test_sets: Name -> case identifiers in imagesTs, where a dataset has several test sets.
        settings: What the user chose, resolved. The same source with other settings is other content.
        notes: Sentences the user should read, such as patients that are missing.
        findings: Problems that were seen while planning; any of them stops the conversion.
        file_ending: Ending of the files that are written.
    """

    source: Path
    cases: Sequence[Case]
    channel_names: dict[str, str]
    labels: dict[str, int]
    splits: list[dict[str, list[str]]]
    budgets: list[dict[str, Any]]
    test_sets: dict[str, list[str]] = field(default_factory=dict)
    settings: dict[str, Any]
    notes: Sequence[str] = ()
    findings: Sequence[str] = ()
    file_ending: str = ".nii.gz"

    def of_part(self, part: str) -> list[Case]:
        """Return the cases of one part, sorted by identifier."""
        return sorted((case for case in self.cases if case.part == part), key=lambda case: case.identifier)


class DatasetConverter(ABC):
    """Base class of the converters: knows the layout of one data set, and nothing about checking and writing.

    Attributes:
        dataset_name: The dataset is written to ``DatasetXXX_<dataset_name>``.
        default_id: Dataset id if the user names none.
        help: A line for the console.
        example: A command line.
    """

    dataset_name: ClassVar[str]
    default_id: ClassVar[int]
    help: ClassVar[str]
    example: ClassVar[str]

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the options that every converter has. Extend it for more."""
        parser.add_argument("-i", "--input", required=True, type=Path, metavar="FOLDER", help="folder of the raw data")
        parser.add_argument(
            "-d", "--dataset-id", type=int, default=self.default_id, metavar="ID", help="nnU-Net id (%(default)s)"
        )
        parser.add_argument(
            "--labeled",
            nargs="+",
            required=True,
            metavar="N",
            help="how many patients (or cases) keep their labels: one number (the others go to imagesUl), several "
            'numbers (one fold per number, in one dataset, with "unlabeled" lists), names, or "all"',
        )

    @abstractmethod
    def plan(self, args: argparse.Namespace) -> Conversion:
        """Return which file becomes which case, without reading an image.

        Raises:
            UserError: If the folder is not this data set, or the options do not fit it.
        """

    def convert(self, args: argparse.Namespace) -> Result:
        """Plan, check and write the dataset.

        Raises:
            UserError: If options, data or target do not fit; nothing is written then.
        """
        from .writer import convert

        return convert(self, self.plan(args), args.dataset_id)

    def read(self, path: Path) -> sitk.Image:
        """Return the image or label of a source file. Override for formats that SimpleITK does not read."""
        import SimpleITK as sitk  # noqa: N813

        return sitk.ReadImage(str(path))

    def write(self, source: Path, target: Path) -> None:
        """Write a source file as nnU-Net needs it. Override where a copy is not enough."""
        shutil.copyfile(source, target)


def choose_labeled(tokens: Sequence[str], order: Sequence[str], missing: Collection[str] = ()) -> list[list[str]]:
    """Resolve ``--labeled`` into groups (patients), one list per budget.

    Args:
        tokens: Numbers and ``all`` (each takes the first groups of ``order``), or names of groups (one list).
        order: Every group that may be labeled, in the order in which labels are given out.
        missing: Groups of ``order`` whose files are not there: ``all`` leaves them out, everything else may not ask
            for them, since the budget would then be another one than its name says.

    Raises:
        UserError: If numbers and names are mixed, a number is too large or below 1, something is named twice, or a
            labeled group is missing.
    """
    is_count = [token == "all" or token.isdecimal() for token in tokens]
    if any(is_count) and not all(is_count):
        raise UserError(f"--labeled takes numbers or names, not both; got {' '.join(tokens)}.")
    if not any(is_count):
        chosen = [_named(tokens, order)]
    else:
        present = [group for group in order if group not in missing]
        chosen = [present if token == "all" else list(order[: _count(token, len(order))]) for token in tokens]
    if len(set(map(tuple, chosen))) < len(chosen):
        raise UserError(f"--labeled {' '.join(tokens)} asks for the same number twice. Give each number once.")
    if absent := sorted({group for groups in chosen for group in groups} & set(missing)):
        raise UserError(
            f"--labeled {' '.join(tokens)} needs {', '.join(absent)}, which the data folder lacks. Add the files, or "
            "name other patients."
        )
    return chosen


def fold_of_budget(
    labeled: Sequence[str], others: Sequence[str], val: Sequence[str], cases_of: Callable[[str], list[str]]
) -> dict[str, list[str]]:
    """Return the fold in which some groups are labeled and ``others`` hide their labels.

    Args:
        labeled: Groups to train on.
        others: Groups for the ``"unlabeled"`` list; if there are none, the fold has no such list.
        val: Groups to validate on.
        cases_of: Returns the case identifiers of a group.
    """

    def cases(groups: Sequence[str]) -> list[str]:
        return sorted(case for group in groups for case in cases_of(group))

    fold = {"train": cases(labeled), "val": cases(val)}
    return {**fold, "unlabeled": cases(others)} if others else fold


def _count(token: str, available: int) -> int:
    if token.startswith("0") or not 1 <= int(token) <= available:
        raise UserError(
            f"--labeled {token}: a number must be between 1 and {available}, without leading zeros. To choose certain "
            "patients, write their whole names."
        )
    return int(token)


def _named(names: Sequence[str], order: Sequence[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise UserError(f"--labeled names something twice: {' '.join(names)}. Name each once.")
    if unknown := [name for name in names if name not in order]:
        raise UserError(
            f"--labeled {' '.join(unknown)}: not among the {len(order)} that may be labeled ({', '.join(order[:5])}"
            f"{', ...' if len(order) > 5 else ''}). Validation and test patients cannot be labeled for training."
        )
    return list(names)
