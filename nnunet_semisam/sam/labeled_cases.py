"""Read labeled nnU-Net raw data sets case by case, and cut cases into the slices that a 2D SAM sees.

Shapes in this file: ``C`` channels, ``D0, D1, D2`` the axes of a volume as nnU-Net reads it, ``N`` slices, ``H, W``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_semisam.errors import UserError
from nnunet_semisam.io.json_files import read_object

REMEDY = "Every nnU-Net data set has one: see nnU-Net's documentation/dataset_format.md."


@dataclass(frozen=True)
class LabeledCase:
    """A case with its annotation.

    Attributes:
        name: Case identifier.
        image: ``(C, D0, D1, D2)``, float32.
        label: ``(D0, D1, D2)``, integer.
        spacing_mm: Distance of voxels along each axis.
    """

    name: str
    image: NDArray[np.float32]
    label: NDArray[np.integer]
    spacing_mm: tuple[float, float, float]


def find_dataset(dataset: str) -> Path:
    """Return the raw folder of a data set.

    Args:
        dataset: A folder, or a name or number of a data set in ``$nnUNet_raw``.

    Raises:
        UserError: If there is none, or it holds no labeled cases.
    """
    folder = Path(dataset).expanduser()
    if not (folder / "dataset.json").is_file():
        raw = os.environ.get("nnUNet_raw")
        number = f"Dataset{int(dataset):03d}_*" if dataset.isdigit() else dataset
        matches = sorted(Path(raw).glob(number)) if raw and dataset and not folder.is_absolute() else []
        if len(matches) != 1:
            raise UserError(
                f"{dataset!r} is neither a folder with a dataset.json nor one data set in nnUNet_raw ({raw}); found "
                f"{[m.name for m in matches]}. Give the raw folder of a labeled nnU-Net data set, its name or number."
            )
        folder = matches[0]
    if not (folder / "dataset.json").is_file() or not (folder / "labelsTr").is_dir():
        raise UserError(
            f"{folder} lacks dataset.json or labelsTr. A labeled data set in nnU-Net's raw layout is needed."
        )
    return folder


def class_names(folder: Path) -> dict[int, str]:
    """Return the name of every foreground label of a data set; regions are numbered, ``ignore`` left out."""
    labels: dict[str, Any] = read_object(folder / "dataset.json", REMEDY)["labels"]
    names = {value: name for name, value in labels.items() if isinstance(value, int)}
    for value in (v for values in labels.values() if isinstance(values, list) for v in values):
        names.setdefault(int(value), f"label {value}")
    return {value: names[value] for value in sorted(names) if value > 0 and names[value] != "ignore"}


def labeled_cases(folder: Path, most: int | None = None) -> Iterator[LabeledCase]:
    """Yield the labeled cases of a raw data set, in order of their names.

    Args:
        folder: Folder with dataset.json, imagesTr and labelsTr.
        most: Stop after so many cases; ``None`` reads all.

    Raises:
        UserError: If there is no case.
    """
    from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json
    from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

    description = read_object(folder / "dataset.json", REMEDY)
    cases = get_filenames_of_train_images_and_targets(str(folder), description)
    if not cases:
        raise UserError(f"{folder} holds no labeled case in imagesTr and labelsTr.")
    example = next(iter(cases.values()))["images"][0]
    reader = determine_reader_writer_from_dataset_json(description, example, verbose=False)()
    for name in sorted(cases)[:most]:
        image, properties = reader.read_images(cases[name]["images"])
        label, _ = reader.read_seg(cases[name]["label"])
        spacing = tuple(float(s) for s in properties["spacing"])
        yield LabeledCase(name, image.astype(np.float32), np.rint(label[0]).astype(np.int16), spacing)


def slice_axis(spacing_mm: tuple[float, ...]) -> int:
    """Return the axis along which slices are seen: that of the largest spacing, the first of several."""
    return int(np.argmax(spacing_mm))


def to_slices(case: LabeledCase, axis: int | None = None) -> tuple[NDArray[np.float32], NDArray[np.integer]]:
    """Return images ``(N, C, H, W)`` and labels ``(N, H, W)`` of all slices of a case.

    Args:
        case: The case.
        axis: Axis along which slices are seen; ``None`` takes :func:`slice_axis`.
    """
    axis = slice_axis(case.spacing_mm) if axis is None else axis
    return np.moveaxis(case.image, axis + 1, 0), np.moveaxis(case.label, axis, 0)
