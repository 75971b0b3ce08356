"""Read labeled nnU-Net raw data sets case by case, and cut cases into the slices that a 2D SAM sees.

Shapes in this file: ``C`` channels, ``D0, D1, D2`` the axes of a volume as nnU-Net reads it, ``N`` slices, ``H, W``.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunet_semisam.errors import UserError, name_some, printable, shown
from nnunet_semisam.io.json_files import read_object
from nnunet_semisam.io.names import check_case_name, check_text_name
from nnunet_semisam.io.regular_files import check_regular_file

logger = logging.getLogger(__name__)
IGNORE = "ignore"  # nnU-Net's name of the label
LARGEST_LABEL = np.iinfo(np.int16).max
REMEDY = "Every nnU-Net data set has one: see nnU-Net's documentation/dataset_format.md."


@dataclass(frozen=True)
class LabeledCase:
    """A case with its annotation.

    Attributes:
        name: Case identifier.
        image: ``(C, D0, D1, D2)``, float32.
        label: ``(D0, D1, D2)``, integer.
        spacing_mm: Distance of voxels along each axis.
        ignore: Value of voxels that nobody annotated; ``None``: there are none.
    """

    name: str
    image: NDArray[np.float32]
    label: NDArray[np.integer]
    spacing_mm: tuple[float, float, float]
    ignore: int | None = None


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
            there = sorted(path.name for path in Path(raw).glob("Dataset*")) if raw else []
            found = f"There are: {name_some(there)}." if there else "There is no data set."
            raise UserError(
                f"{shown(dataset)} is neither a folder with a dataset.json nor one data set in nnUNet_raw ({raw}). "
                f"{found} Give the raw folder of a labeled nnU-Net data set, its name or number."
            )
        folder = matches[0]
    if not (folder / "dataset.json").is_file() or not (folder / "labelsTr").is_dir():
        raise UserError(
            f"{folder} lacks dataset.json or labelsTr. A labeled data set in nnU-Net's raw layout is needed."
        )
    return folder


def class_names(folder: Path) -> dict[int, str]:
    """Return the name of every foreground label of a data set; regions are numbered, ``ignore`` left out."""
    labels: dict[str, Any] = _description(folder)["labels"]
    names = {value: name for name, value in labels.items() if isinstance(value, int)}
    for value in (v for values in labels.values() if isinstance(values, list) for v in values):
        names.setdefault(value, f"label {value}")
    return {value: names[value] for value in sorted(names) if value > 0 and names[value] != IGNORE}


def _description(folder: Path) -> dict[str, Any]:
    """Return the checked content of dataset.json."""
    path = folder / "dataset.json"
    content = read_object(path, REMEDY)
    labels, ending = content.get("labels"), content.get("file_ending")
    if not isinstance(labels, dict) or not labels:
        raise UserError(f"{path}: labels must name the classes (name -> number), got {shown(labels)}. {REMEDY}")
    for name, value in labels.items():
        check_text_name(name, "label", str(path))
        values = value if isinstance(value, list) else [value]
        if not values or any(type(each) is not int or not 0 <= each <= LARGEST_LABEL for each in values):
            raise UserError(
                f"{path}: the label {name!r} must be a number from 0 to {LARGEST_LABEL} or a list of them, got "
                f"{shown(value)}. {REMEDY}"
            )
    if not isinstance(ending, str) or not ending.startswith(".") or "/" in ending:
        raise UserError(f"{path}: file_ending must be an ending like .nii.gz, got {shown(ending)}. {REMEDY}")
    return content


def labeled_cases(
    folder: Path,
    most: int | None = None,
    left_out: Callable[[str, UserError], object] | None = None,
    check_file: Callable[[Path], object] = lambda path: None,
    without: Collection[str] = (),
) -> Iterator[LabeledCase]:
    """Yield the labeled cases of a raw data set, in order of their names.

    Args:
        folder: Folder with dataset.json, imagesTr and labelsTr.
        most: Only the first so many cases; ``None`` reads all.
        left_out: Is told of each case that cannot be read; ``None`` logs a warning. The others go on.
        check_file: Raises ``ValueError`` for a file that is cut off, which ITK's readers fill with zeros.
        without: Cases that are not read.

    Raises:
        UserError: If there is no case, or dataset.json is not as nnU-Net wants it.
    """
    from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

    description = _description(folder)
    try:
        cases = get_filenames_of_train_images_and_targets(str(folder), description)
    except (KeyError, TypeError, AttributeError, AssertionError) as error:
        raise UserError(
            f"{folder / 'dataset.json'} does not list its cases as nnU-Net does ({error}). {REMEDY}"
        ) from error
    cases = {name: files for name, files in cases.items() if files["images"]}
    if not cases:
        raise UserError(f"{folder} holds no labeled case in imagesTr and labelsTr.")
    for name in cases:
        check_case_name(name, f"{folder / 'dataset.json'} or its folders")
    for name in sorted(set(cases) - set(without))[:most]:
        images, label = cases[name]["images"], cases[name]["label"]
        try:
            for file in (*images, label):
                check_regular_file(file, "Put the file there, or take the case out of the data set.")
                _check(check_file, Path(file))
            case = _read_case(name, images, label, description)
        except UserError as error:
            if left_out is None:
                logger.warning("%s is left out: %s", name, error)
            else:
                left_out(name, error)
            continue
        yield case


def _check(check_file: Callable[[Path], object], path: Path) -> None:
    try:
        check_file(path)
    except (ValueError, OSError) as error:
        reason = printable(str(error), 300)
        raise UserError(f"{path}: {reason}. Get the file again, or take the case out of the data set.") from error


def _read_case(name: str, images: Sequence[str], label_file: str, description: dict[str, Any]) -> LabeledCase:
    """Read a case and check what nnU-Net's readers do not.

    Raises:
        UserError: If a file cannot be read, shapes differ, or there are NaN.
    """
    from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json

    remedy = "Get the file again, or take the case out of the data set."
    try:
        with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            # nnU-Net tries several, and prints what each of them says
            reader = determine_reader_writer_from_dataset_json(description, images[0], verbose=False)()
        image, properties = reader.read_images(images)
        label, _ = reader.read_seg(label_file)
    except Exception as error:  # the readers of all formats raise what their libraries do
        raise UserError(
            f"{name} ({images[0]} and its label) cannot be read: {printable(str(error), 300)}. {remedy}"
        ) from error
    if image.shape[1:] != label.shape[1:]:
        raise UserError(f"{name}: its image has {image.shape[1:]} voxels, and {label_file} {label.shape[1:]}. {remedy}")
    if not np.isfinite(image).all() or not np.isfinite(label).all():
        raise UserError(f"{name}: {images[0]} or its label holds NaN or infinity. {remedy}")
    if label.min() < 0 or label.max() > LARGEST_LABEL:
        raise UserError(f"{label_file} holds the values {label.min():g} to {label.max():g}. {remedy}")
    spacing = tuple(float(s) for s in properties["spacing"])
    ignore = description["labels"].get(IGNORE)
    return LabeledCase(name, image.astype(np.float32), np.rint(label[0]).astype(np.int16), spacing, ignore)


def slice_axis(spacing_mm: tuple[float, ...]) -> int:
    """Return the axis along which slices are seen: that of the largest spacing, the first of several."""
    return int(np.argmax(spacing_mm))


def touches_unknown(objects: NDArray[np.bool_], unknown: NDArray[np.bool_]) -> bool:
    """Return whether an object touches voxels that nobody annotated, diagonally, too.

    Args:
        objects: Voxels of any class, of one image; where ``unknown`` is True they do not count.
        unknown: Voxels that nobody annotated, of the same shape.
    """
    everywhere = ndimage.generate_binary_structure(objects.ndim, objects.ndim)
    return bool((ndimage.binary_dilation(objects & ~unknown, everywhere) & unknown).any())


def to_slices(case: LabeledCase, axis: int | None = None) -> tuple[NDArray[np.float32], NDArray[np.integer]]:
    """Return images ``(N, C, H, W)`` and labels ``(N, H, W)`` of the slices of a case.

    Slices in which an object touches voxels that nobody annotated are left out: what was annotated of it, a scribble
    for example, would be taken for all of it.

    Args:
        case: The case.
        axis: Axis along which slices are seen; ``None`` takes :func:`slice_axis`.
    """
    axis = slice_axis(case.spacing_mm) if axis is None else axis
    images, labels = np.moveaxis(case.image, axis + 1, 0), np.moveaxis(case.label, axis, 0)
    if case.ignore is None:
        return images, labels
    whole = np.array([not touches_unknown(label > 0, label == case.ignore) for label in labels], dtype=bool)
    return images[whole], labels[whole]
