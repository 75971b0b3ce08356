"""Any dataset with every k-th slice annotated: a study of partial annotation, made from a full one.

Slices are counted along the axis of the largest spacing, the one along which people annotate. The first slice that
keeps its label differs from case to case (systematic sampling with a random start): on average over cases each part of
the body is shown as often as it occurs. All other voxels get nnU-Net's ignore label. Cases that no fold trains on keep
their whole label: they judge.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__" and not __package__:  # run as a script: make the relative imports below work
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = "dataset_conversion"

from nnunet_semisam.data.dataset_json import IGNORE, ignore_label
from nnunet_semisam.errors import UserError, name_some

from .command_line import run_script
from .from_nnunet import NNUNetConverter
from .reading.case import Case, Conversion, Review
from .reading.facts import Facts
from .reading.raw_dataset import MOST_LABEL

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813

EVERY = 5


class SparseConverter(NNUNetConverter):
    """Converts a raw dataset as ``convert nnunet`` does, and keeps every k-th slice of the labels it trains on."""

    dataset_name = "Sparse"
    default_id = 510
    help = "any nnU-Net or Decathlon dataset, of whose labels every k-th slice is kept (the rest is ignored)"
    example = "nnunet-semisam convert sparse -i Dataset027_ACDC -d 510 --labeled 10 --every 5 --name ACDCSparse"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the options of ``convert nnunet``, and those for slices."""
        super().add_arguments(parser)
        parser.add_argument(
            "--every",
            type=int,
            default=EVERY,
            metavar="K",
            help="every K-th slice along the axis of the largest spacing keeps its label (default: %(default)s)",
        )
        parser.add_argument(
            "--slice-seed", type=int, default=0, metavar="N", help="seed of the first slice (default: %(default)s)"
        )

    def plan(self, args: argparse.Namespace) -> Conversion:
        """Return the cases, folds and notes for the parsed options."""
        if args.every < 2:
            raise UserError(
                f"--every must be at least 2, got {args.every}: with 1 every slice keeps its label, as with "
                "nnunet-semisam convert nnunet."
            )
        full = super().plan(args)
        value = ignore_label({"labels": full.labels})
        if value > MOST_LABEL:
            raise UserError(f"The labels of {full.source} leave no number for the label {IGNORE!r}. Take fewer labels.")
        trained = {case for split in full.splits for part in ("train", "unlabeled") for case in split.get(part, ())}
        slices = Slices(args.every, args.slice_seed, value, frozenset(full.label_values))
        cases = [
            _sparse(case, slices) if case.part == "Tr" and case.identifier in trained else case for case in full.cases
        ]
        sparse = [case.identifier for case, before in zip(cases, full.cases, strict=True) if case is not before]
        return replace(
            full,
            cases=cases,
            labels={**full.labels, IGNORE: value},
            settings={**full.settings, "every": args.every, "slice_seed": args.slice_seed},
            notes=[
                *full.notes,
                f"{len(sparse)} cases keep the label of one slice in {args.every}, the rest is {IGNORE!r}; cases that "
                "no fold trains on keep their whole label",
            ],
            review=lambda facts: _review(facts, sparse, full.file_ending, value),
        )


@dataclass(frozen=True)
class Slices:
    """Which slices keep their label.

    Attributes:
        every: Every so-many-th one.
        seed: Chooses, with the name of a case, the first one.
        ignore: What the other voxels become.
        allowed: The values that a label may have.
    """

    every: int
    seed: int
    ignore: int
    allowed: frozenset[int]

    def kept(self, case: str, count: int) -> range:
        """Return the numbers of the slices that keep their label, at least one.

        Args:
            case: Name of the case.
            count: How many slices it has.

        Example:
            >>> slices = Slices(every=5, seed=0, ignore=3, allowed=frozenset({0, 1, 2}))
            >>> list(slices.kept("patient001_frame01", 12))
            [3, 8]
        """
        start = zlib.crc32(f"{self.seed} {case}".encode()) % min(self.every, count)
        return range(start, count, self.every)

    def applied(self, case: str, path: Path, label: sitk.Image) -> sitk.Image:
        """Return a label of which only some slices are left.

        Args:
            case: Name of the case.
            path: The file, for voxels that ITK changes when it reads them.
            label: What was read of it.

        Raises:
            ValueError: If it has one slice only, or other values than a label may have: they would be rounded.
        """
        import numpy as np
        import SimpleITK as sitk  # noqa: N813

        from nnunet_semisam.data.stored_voxels import voxels_as_stored

        voxels = sitk.GetArrayFromImage(label)
        values = np.unique(voxels_as_stored(path, voxels) if voxels.dtype.kind == "f" else voxels)
        unexpected = [f"{value:.9g}" for value in values if value not in self.allowed]
        if unexpected:
            allowed = ", ".join(map(str, sorted(self.allowed)))
            raise ValueError(f"it has label values {', '.join(unexpected[:10])}, and allowed are {allowed}")
        axis = int(np.argmax(label.GetSpacing()[::-1]))  # the first of several
        count = voxels.shape[axis]
        if count < 2:
            raise ValueError(f"it has one slice along its axis of the largest spacing, {voxels.shape} voxels")
        sparse = np.full(voxels.shape, self.ignore, dtype=np.uint8 if self.ignore < 256 else np.int16)
        chosen = [slice(None)] * voxels.ndim
        chosen[axis] = list(self.kept(case, count))
        sparse[tuple(chosen)] = voxels[tuple(chosen)]
        result = sitk.GetImageFromArray(sparse)
        result.CopyInformation(label)
        return result


def _sparse(case: Case, slices: Slices) -> Case:
    whole = case.label
    label = replace(
        whole,
        load=lambda path: slices.applied(case.identifier, path, whole.read()),
        rewrite=True,
    )
    return replace(case, label=label)


def _review(facts: Mapping[str, Facts], sparse: list[str], ending: str, ignore: int) -> Review:
    """Refuse labels of which nothing is left: slices that are kept may have been ignored in the source already."""
    empty = [case for case in sparse if (each := facts.get(f"labelsTr/{case}{ending}")) and each.minimum == ignore]
    if empty:
        return Review(findings=[f"labelsTr of {name_some(empty)}: no voxel but the ignore label. Remove these cases."])
    return Review()


if __name__ == "__main__":
    sys.exit(run_script(SparseConverter()))
