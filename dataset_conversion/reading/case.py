"""What a converter plans: files, cases, and the whole conversion. Everything else builds on this module."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_semisam.data.raw_files import PARTS
from nnunet_semisam.splits.folds import Split
from nnunet_semisam.splits.label_budgets import Grouping, LabelBudget

from .headers import check_file

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813  SimpleITK's own documentation calls it so

    from .facts import Facts


@dataclass(frozen=True)
class Source:
    """One source file: how it is read, and how it gets into the dataset.

    Attributes:
        path: The file.
        load: Reads it, for formats that SimpleITK does not read; ``None`` lets SimpleITK read it.
        rewrite: Whether what was read is written; otherwise the file is copied, byte for byte.
        beside: A file that nnU-Net reads along with it: the spacing of a tif volume.
        many_channels: Whether the file may hold several channels, as the values of one voxel.
        header: Looks at its header before it is read; ``None`` chooses by the ending of its name.
    """

    path: Path
    load: Callable[[Path], sitk.Image] | None = None
    rewrite: bool = False
    beside: Path | None = None
    many_channels: bool = False
    header: Callable[[Path], None] | None = None

    def check(self) -> None:
        """Refuse the file by what it is and by its header; no voxel is read.

        Raises:
            UserError: If it cannot be right. The message names file and remedy.
        """
        check_file(self.path, self.header)

    def read(self) -> sitk.Image:
        """Return the image or label."""
        import SimpleITK as sitk  # noqa: N813

        return sitk.ReadImage(str(self.path)) if self.load is None else self.load(self.path)

    def write(self, target: Path) -> None:
        """Write the file as nnU-Net needs it, where no file is.

        Raises:
            FileExistsError: If there is one, or a link: nothing is ever written over.
            RuntimeError: If not all of it was written. ITK says nothing when a disk is full (SimpleITK 2.5.7).
        """
        if os.path.lexists(target):
            raise FileExistsError(f"{target} exists already")
        if not self.rewrite:
            shutil.copyfile(self.path, target)
            return
        import SimpleITK as sitk  # noqa: N813

        from nnunet_semisam.data.stored_voxels import refuse_cut_off

        sitk.WriteImage(self.read(), str(target), useCompression=True)
        try:
            refuse_cut_off(target)
        except ValueError as error:
            raise RuntimeError(f"it was not written whole, is the disk full? {error}") from error


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
    images: tuple[Source, ...]
    label: Source | None
    part: str

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise ValueError(f"The part of {self.identifier} must be one of {PARTS}, got {self.part!r}.")
        if (self.part == "Ul" and self.label is not None) or (self.part == "Tr" and self.label is None):
            raise ValueError(f"{self.identifier}: Tr cases have a label, Ul cases have none, got {self.label}.")

    @property
    def sources(self) -> tuple[Source, ...]:
        """All files that are written for this case: images, label, and what lies beside them."""
        sources = list(self.images)
        if self.label is not None:
            sources.append(self.label)
        sources += [Source(path) for path in self._beside().values()]
        return tuple(sources)

    def targets(self, file_ending: str) -> list[str]:
        """Return the name of each of ``sources`` in the dataset, relative to its folder."""
        names = [f"images{self.part}/{self.identifier}_{i:04d}{file_ending}" for i in range(len(self.images))]
        if self.label is not None:
            names.append(f"labels{self.part}/{self.identifier}{file_ending}")
        names += [f"{kind}{self.part}/{self.identifier}.json" for kind in self._beside()]
        return names

    def _beside(self) -> dict[str, Path]:
        """Return the files beside the first image, which stands for all channels, and beside the label."""
        files = {}
        if self.images[0].beside is not None:
            files["images"] = self.images[0].beside
        if self.label is not None and self.label.beside is not None:
            files["labels"] = self.label.beside
        return files


@dataclass(frozen=True)
class Review:
    """What a converter reports once every file was read.

    Attributes:
        notes: Sentences the user should read.
        findings: Problems that stop the conversion.
    """

    notes: Sequence[str] = ()
    findings: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """All that is needed to write a raw dataset.

    Attributes:
        name: The dataset is written to ``DatasetXXX_<name>``.
        source: Folder the data come from; the manifest names files relative to it.
        cases: Cases of all parts.
        channel_names: nnU-Net's ``channel_names``; they choose the normalisation.
        labels: nnU-Net's ``labels``: name -> value, or list of values for a region.
        splits: Folds of ``splits_final.json``.
        budgets: Per fold, the labeled groups (patients) that it trains on.
        grouping: Which cases are of one patient, and who is labeled first: for later splits and benchmarks.
        test_sets: Name -> case identifiers in imagesTs, where a dataset has several test sets.
        settings: What the user chose, resolved. The same source with other settings is other content.
        notes: Sentences the user should read, such as patients that are missing.
        findings: Problems that were seen while planning; any of them stops the conversion.
        review: Looks at the facts of all files (target -> facts) before anything is written.
        headers_may_differ: Whether origin and direction of a label may differ from its image's, as nnU-Net allows.
        can_leave_out: Whether the converter has ``--leave-out``, so that errors may recommend it.
        more_json: Further entries of ``dataset.json``.
        file_ending: Ending of the files that are written.
    """

    name: str
    source: Path
    cases: Sequence[Case]
    channel_names: dict[str, str]
    labels: dict[str, int | list[int]]
    splits: list[Split]
    budgets: list[LabelBudget]
    grouping: Grouping
    test_sets: dict[str, list[str]] = field(default_factory=dict)
    settings: dict[str, Any]
    notes: Sequence[str] = ()
    findings: Sequence[str] = ()
    review: Callable[[Mapping[str, Facts]], Review] | None = None
    headers_may_differ: bool = False
    can_leave_out: bool = False
    more_json: Mapping[str, Any] = field(default_factory=dict)
    file_ending: str = ".nii.gz"

    def of_part(self, part: str) -> list[Case]:
        """Return the cases of one part, sorted by identifier."""
        return sorted((case for case in self.cases if case.part == part), key=lambda case: case.identifier)

    def paths_of_targets(self) -> dict[str, Path]:
        """Return file of the dataset, relative to its folder -> source file."""
        paths = {}
        for case in self.cases:
            for source, target in zip(case.sources, case.targets(self.file_ending), strict=True):
                paths[target] = source.path
        return paths

    @property
    def label_values(self) -> set[int]:
        """Every value a label may have; regions are lists of values."""
        values: set[int] = set()
        for entry in self.labels.values():
            values.update(entry if isinstance(entry, list) else [entry])
        return values
