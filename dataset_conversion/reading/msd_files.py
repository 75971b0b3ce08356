"""A task of the Medical Segmentation Decathlon: the files that its ``dataset.json`` lists."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_semisam.errors import UserError, name_some

from .case import Source
from .raw_dataset import CaseFiles, RawDataset, check_labels, entry, further_entries, visible_files

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813

FILE_ENDING = ".nii.gz"


def read_msd(folder: Path, content: Mapping[str, Any]) -> RawDataset:
    """List the files of a task; no image is opened.

    Args:
        folder: The task.
        content: Its ``dataset.json``.

    Raises:
        UserError: If ``dataset.json`` is malformed.
    """
    path = folder / "dataset.json"
    channels = entry(path, content, "modality", dict)
    names = entry(path, content, "labels", dict)
    try:
        labels = {str(name): int(value) for value, name in names.items()}
        pairs = [(folder / each["image"], folder / each["label"]) for each in content["training"]]
        tests = [folder / (each["image"] if isinstance(each, dict) else each) for each in content.get("test", [])]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} must list training cases as image and label, and labels as number and name, as the Decathlon "
            f"does ({type(error).__name__}: {error}). Get the task again."
        ) from error
    check_labels(path, labels)
    dataset = RawDataset(folder, channels, labels, FILE_ENDING, further_entries(content))
    for image, label in pairs:
        dataset.train[_stem(image)] = CaseFiles(_images(image, len(channels)), Source(label))
    for image in tests:
        if image.is_file():
            dataset.test[_stem(image)] = CaseFiles(_images(image, len(channels)))
    for image in visible_files(folder / "imagesUl", FILE_ENDING):
        dataset.unlabeled[_stem(image)] = CaseFiles(_images(image, len(channels)))
    absent = [image.name for image in tests if not image.is_file()]
    if absent:
        dataset.notes.append(
            f"{len(absent)} of the {len(tests)} test images of dataset.json are not there: {name_some(absent)}"
        )
    dataset.note_unlisted("Tr", [image for image, _ in pairs])
    dataset.note_unlisted("Ts", tests)
    dataset.find_missing_files()
    return dataset


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


def _images(file: Path, channels: int) -> tuple[Source, ...]:
    if channels == 1:
        return (Source(file),)
    return tuple(Source(file, partial(read_channel, channel=i), rewrite=True) for i in range(channels))


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")
