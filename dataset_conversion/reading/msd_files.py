"""A task of the Medical Segmentation Decathlon: the files that its ``dataset.json`` lists."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_semisam.data.dataset_json import channel_names
from nnunet_semisam.errors import UserError, name_some, printable, shown
from nnunet_semisam.io.typed_records import inner_path_problem

from .case import Source
from .headers import check_image
from .raw_dataset import CaseFiles, RawDataset, check_labels, entry, further_entries, visible_files

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813

FILE_ENDING = ".nii.gz"
NUMBER = re.compile("[0-9]{1,5}")


def read_msd(folder: Path, content: Mapping[str, Any]) -> RawDataset:
    """List the files of a task; no image is opened.

    Args:
        folder: The task.
        content: Its ``dataset.json``.

    Raises:
        UserError: If ``dataset.json`` is malformed.
    """
    path = folder / "dataset.json"
    channels = channel_names({"channel_names": entry(path, content, "modality", dict)}, path)
    labels = read_labels(path, entry(path, content, "labels", dict))
    try:
        pairs = [(_path(folder, each["image"]), _path(folder, each["label"])) for each in content["training"]]
        listed = content.get("test", [])
        tests = [_path(folder, each["image"] if isinstance(each, dict) else each) for each in listed]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} must list training cases as image and label, and labels as number and name, as the Decathlon "
            f"does ({type(error).__name__}: {printable(str(error))}). Get the task again."
        ) from error
    check_labels(path, labels)
    dataset = RawDataset(folder, channels, labels, FILE_ENDING, further_entries(content))
    header = partial(check_channels, channels=len(channels)) if len(channels) > 1 else None
    there = [image for image in tests if os.path.lexists(image)]
    _find_repeated(dataset, "training", [image for image, _ in pairs])
    _find_repeated(dataset, "test", there)
    for image, label in pairs:
        dataset.train[_stem(image)] = CaseFiles(_images(image, len(channels), header), Source(label))
    for image in there:
        dataset.test[_stem(image)] = CaseFiles(_images(image, len(channels), header))
    for image in visible_files(folder / "imagesUl", FILE_ENDING):
        dataset.unlabeled[_stem(image)] = CaseFiles(_images(image, len(channels), header))
    absent = [image.name for image in tests if not os.path.lexists(image)]
    if absent:
        dataset.notes.append(
            f"{len(absent)} of the {len(tests)} test images of dataset.json are not there: {name_some(absent)}"
        )
    dataset.note_unlisted("Tr", [image for image, _ in pairs])
    dataset.note_unlisted("Ts", tests)
    dataset.find_wrong_files()
    dataset.note_unused()
    return dataset


def read_labels(path: Path, names: Mapping[str, Any]) -> dict[str, int]:
    """Return label -> value; the Decathlon lists them the other way round, and two values may not share a name.

    Raises:
        UserError: If a value is no number, or a name comes twice.
    """
    labels: dict[str, int] = {}
    for value, name in names.items():
        if not NUMBER.fullmatch(value) or not isinstance(name, str):
            raise UserError(
                f'{path}: labels must be like {{"0": "background", "1": "organ"}}, got {shown(value)}: {shown(name)}. '
                "Correct it."
            )
        if name in labels:
            raise UserError(f"{path}: the labels {labels[name]} and {value} are both called {shown(name)}. Rename one.")
        labels[name] = int(value)
    return labels


def check_channels(path: Path, channels: int) -> None:
    """Check the header of a 4D image.

    Raises:
        UserError: If it cannot be right.
        ValueError: If the image has more channels or fewer: none is ever dropped.
    """
    import SimpleITK as sitk  # noqa: N813

    check_image(path)
    header = sitk.ImageFileReader()
    header.SetFileName(str(path))
    header.ReadImageInformation()
    size = header.GetSize()
    if len(size) != 4 or size[3] != channels:
        raise ValueError(
            f"dataset.json names {channels} channels, so it must have 4 axes, the last of {channels}; its "
            f"size is {size}"
        )


def read_channel(path: Path, channel: int) -> sitk.Image:
    """Read one channel of a 4D image.

    Raises:
        ValueError: If the image has fewer channels.
    """
    import SimpleITK as sitk  # noqa: N813

    image = sitk.ReadImage(str(path))
    if image.GetDimension() != 4 or image.GetSize()[3] <= channel:
        raise ValueError(f"it has no channel {channel}, its size is {image.GetSize()}")
    return image[:, :, :, channel]


def _find_repeated(dataset: RawDataset, part: str, images: Sequence[Path]) -> None:
    for name, count in Counter(map(_stem, images)).items():
        if count > 1:
            where = ", ".join(str(image) for image in images if _stem(image) == name)
            dataset.find(
                name, f'{dataset.folder / "dataset.json"}: "{part}" lists {name} {count} times ({where}). Keep one'
            )


def _path(folder: Path, file: Any) -> Path:
    if not isinstance(file, str) or not file or "\0" in file:
        raise ValueError(f"{shown(file)} is no path")
    problem = inner_path_problem(file)
    if problem is not None:  # somebody else's list would bring any image of this machine into the dataset
        raise ValueError(f"{shown(file)}: {problem}")
    return folder / file


def _images(file: Path, channels: int, header: Callable[[Path], None] | None) -> tuple[Source, ...]:
    if channels == 1:
        return (Source(file),)
    return tuple(Source(file, partial(read_channel, channel=i), True, header=header) for i in range(channels))


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")
