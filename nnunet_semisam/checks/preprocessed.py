"""The preprocessed files of cases: there, whole by header and length, and of one shape; on request every voxel."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_semisam.checks.findings import cause_of
from nnunet_semisam.errors import UserError, name_some, printable
from nnunet_semisam.io.array_files import open_array, read_part
from nnunet_semisam.io.regular_files import check_regular_file

LOCATIONS = "class_locations"  # what nnU-Net's loader needs of the .pkl to find foreground
SUFFIX = ".b2nd"
MAKES_ARRAYS = {
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    *(("numpy", "dtype"), ("numpy", "ndarray"), ("_codecs", "encode"), ("collections", "OrderedDict")),
}


def problems_of_labeled(
    folder: Path, case: str, channels: int, allowed: set[int], remedy: str, deep: bool
) -> Iterator[str]:
    """Yield what is wrong with the files of a labeled case: image, label and ``.pkl``.

    Args:
        folder: Preprocessed cases of the configuration.
        case: The case.
        channels: Channels that its image must have.
        allowed: Values that its label may have.
        remedy: What to do about a damaged file.
        deep: Whether every voxel is read.
    """
    image = folder / f"{case}{SUFFIX}"
    label = folder / f"{case}_seg{SUFFIX}"
    found: list[tuple[int, ...]] = []
    for check in (
        lambda: found.append(_check_image(image, channels, remedy, deep)),
        lambda: found.append(_check_label(label, allowed, remedy, deep)),
        lambda: check_pickle(folder / f"{case}.pkl", remedy),
    ):
        try:
            check()
        except UserError as error:
            yield str(error)
    if len(found) == 2 and found[0] != found[1]:
        yield f"{label} has the shape {found[1]}, its image {image.name} has {found[0]}. {remedy}"


def problems_of_unlabeled(image: Path, channels: int, remedy: str, deep: bool) -> Iterator[str]:
    """Yield what is wrong with the image of an unlabeled case; nothing else of it is opened."""
    try:
        _check_image(image, channels, remedy, deep)
    except UserError as error:
        yield str(error)


def _check_image(path: Path, channels: int, remedy: str, deep: bool) -> tuple[int, ...]:
    array = open_array(path, remedy, axes=4, kinds="f")
    if array.shape[0] != channels:
        raise UserError(f"{path} has {array.shape[0]} channels, dataset.json has {channels}. {remedy}")
    if deep and not np.isfinite(read_part(array, slice(None), path, remedy)).all():
        raise UserError(f"{path} holds values that are not finite (NaN or infinite). {remedy}")
    return tuple(array.shape[1:])


def _check_label(path: Path, allowed: set[int], remedy: str, deep: bool) -> tuple[int, ...]:
    array = open_array(path, remedy, axes=4, kinds="iu")
    if array.shape[0] != 1:
        raise UserError(f"{path} has {array.shape[0]} channels, a label map has 1. {remedy}")
    if deep:
        foreign = sorted({int(value) for value in np.unique(read_part(array, slice(None), path, remedy))} - allowed)
        if foreign:
            values = name_some([str(value) for value in foreign], 5)
            raise UserError(f"{path} holds labels that dataset.json does not know: {values}. {remedy}")
    return tuple(array.shape[1:])


class _ForeignCodeError(Exception):
    """A pickle names something that makes no array."""


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in MAKES_ARRAYS:
            raise _ForeignCodeError(printable(f"{module}.{name}", 200))
        return super().find_class(module, name)


def check_pickle(path: Path, remedy: str) -> None:
    """Check that a ``.pkl`` is there, whole, and holds what nnU-Net's loader needs: arrays, numbers and texts.

    nnU-Net runs whatever such a file names; here only what makes arrays is run.

    Raises:
        UserError: If it does not, or names something else.
    """
    check_regular_file(path, remedy)
    try:
        with path.open("rb") as file:
            content = _ArraysOnly(file).load()
    except _ForeignCodeError as error:
        raise UserError(
            f"{path} names {error}, which nnU-Net does not write and would run. Do not train with it; find out who "
            f"wrote it. {remedy}"
        ) from error
    except Exception as error:  # damaged bytes make it raise many kinds
        raise UserError(f"{path} is torn ({cause_of(error)}). {remedy}") from error
    if not isinstance(content, dict) or LOCATIONS not in content:
        raise UserError(f"{path} does not hold what nnU-Net writes ({LOCATIONS} is missing). {remedy}")
