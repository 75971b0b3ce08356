"""An existing dataset as it lies on disk: nnU-Net's raw format, or a task of the Medical Segmentation Decathlon."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_semisam.errors import UserError, name_some

from .case import Source

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813

Files = tuple[tuple[Source, ...], Source | None]  # images of all channels, and the label if there is one
READ_BY_SIMPLEITK = (".nii.gz", ".nrrd", ".mha", ".gipl")
ONE_FILE_FOR_ALL_CHANNELS = (".png", ".bmp", ".tif")
OURS = ("channel_names", "labels", "numTraining", "file_ending", "converted_by", "dataset")
MSD = ("modality", "training", "test", "tensorImageSize", "numTest")


@dataclass
class RawDataset:
    """The files of an existing dataset.

    Attributes:
        folder: Where it is.
        channel_names: As in nnU-Net's ``dataset.json``.
        labels: As in nnU-Net's ``dataset.json``.
        file_ending: Of images and labels.
        more_json: Further entries of ``dataset.json`` that must be kept, such as the order of regions.
        train: Case -> files with a label.
        unlabeled: Case -> files of imagesUl.
        test: Case -> files of imagesTs; with a label where there is one.
        bare: Cases of imagesTr without a label file; they are in ``unlabeled``, too.
        findings: Files that are missing, or belong to nothing.
        notes: What the user should know, such as test images that are listed and not there.
    """

    folder: Path
    channel_names: dict[str, str]
    labels: dict[str, int | list[int]]
    file_ending: str
    more_json: dict[str, Any]
    train: dict[str, Files] = field(default_factory=dict)
    unlabeled: dict[str, Files] = field(default_factory=dict)
    test: dict[str, Files] = field(default_factory=dict)
    bare: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_raw_dataset(name: Path) -> Path:
    """Return the folder of a dataset that is given as a folder, or by id or name below ``nnUNet_raw``.

    Raises:
        UserError: If there is no such dataset.
    """
    raw = os.environ.get("nnUNet_raw")
    choices = [name]
    if raw and len(name.parts) == 1:
        pattern = f"Dataset{int(name.name):03d}_*" if name.name.isdecimal() else name.name
        choices += sorted(Path(raw).glob(pattern))
    for choice in choices:
        if (choice / "dataset.json").is_file():
            return choice
    raise UserError(
        f"-i {name} must be a dataset: a folder with dataset.json, imagesTr and labelsTr, or the id or name of one in "
        f"nnUNet_raw ({raw or 'not set'}). Give its path."
    )


def read_raw_dataset(folder: Path) -> RawDataset:
    """List the files of a dataset; no image is opened.

    Raises:
        UserError: If ``dataset.json`` is malformed, or there is no training case.
    """
    path = folder / "dataset.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as json ({error}). Correct it.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold an object, got {type(content).__name__}. Correct it.")
    dataset = _read_msd(folder, content) if "modality" in content else _read_nnunet(folder, content)
    if not dataset.train:
        found = f" {dataset.findings[0]}" if dataset.findings else ""
        raise UserError(
            f"{folder} has no training case with a label that ends in {dataset.file_ending}, the file_ending of "
            f"dataset.json. Correct it, or put images in imagesTr and labels in labelsTr.{found}"
        )
    return dataset


def _read_nnunet(folder: Path, content: Mapping[str, Any]) -> RawDataset:
    path = folder / "dataset.json"
    dataset = RawDataset(
        folder=folder,
        channel_names=_entry(path, content, "channel_names", dict),
        labels=_entry(path, content, "labels", dict),
        file_ending=_entry(path, content, "file_ending", str),
        more_json={key: value for key, value in content.items() if key not in OURS},
    )
    _check_labels(path, dataset.labels)
    read = _reader(content, dataset.file_ending)
    if "dataset" in content:
        dataset.train = {case: _listed(folder, path, case, entry, read) for case, entry in content["dataset"].items()}
    else:
        found = _in_folders(dataset, "Tr", read)
        dataset.train = {case: files for case, files in found.items() if files[1] is not None}
        dataset.bare = sorted(found.keys() - dataset.train.keys())
        dataset.unlabeled = {case: found[case] for case in dataset.bare}
    dataset.unlabeled |= {case: (images, None) for case, (images, _) in _in_folders(dataset, "Ul", read).items()}
    dataset.test = _in_folders(dataset, "Ts", read)
    for files in (dataset.train, dataset.unlabeled, dataset.test):
        _check_files(dataset, files)
    return dataset


def _read_msd(folder: Path, content: Mapping[str, Any]) -> RawDataset:
    path = folder / "dataset.json"
    channels = _entry(path, content, "modality", dict)
    labels = {str(name): value for value, name in _entry(path, content, "labels", dict).items()}
    try:
        labels = {name: int(value) for name, value in labels.items()}
        pairs = [(folder / entry["image"], folder / entry["label"]) for entry in content["training"]]
        tests = [folder / (entry["image"] if isinstance(entry, dict) else entry) for entry in content.get("test", [])]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} must list training cases as image and label, and labels as number and name, as the Decathlon "
            f"does ({type(error).__name__}: {error}). Get the task again."
        ) from error
    _check_labels(path, labels)

    def images(file: Path) -> tuple[Source, ...]:
        if len(channels) == 1:
            return (Source(file),)
        return tuple(Source(file, partial(read_channel, channel=i), rewrite=True) for i in range(len(channels)))

    more = {key: value for key, value in content.items() if key not in (*OURS, *MSD)}
    dataset = RawDataset(folder, channels, labels, ".nii.gz", more)
    dataset.train = {_stem(image): (images(image), Source(label)) for image, label in pairs}
    dataset.test = {_stem(image): (images(image), None) for image in tests if image.is_file()}
    if absent := [image.name for image in tests if not image.is_file()]:
        dataset.notes.append(
            f"{len(absent)} of the {len(tests)} test images of dataset.json are not there: {name_some(absent)}"
        )
    _check_files(dataset, dataset.train)
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


def read_as_nnunet_does(path: Path, dataset_json: Mapping[str, Any]) -> sitk.Image:
    """Read a file that SimpleITK cannot read as a volume, for example a png, with the reader that nnU-Net would take.

    Of several channels in one file, only the first is looked at.
    """
    import SimpleITK as sitk  # noqa: N813
    from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json

    reader = determine_reader_writer_from_dataset_json(dict(dataset_json), verbose=False)()
    return sitk.GetImageFromArray(reader.read_images((str(path),))[0][0])


def _reader(content: Mapping[str, Any], file_ending: str) -> Callable[[Path], sitk.Image] | None:
    return None if file_ending in READ_BY_SIMPLEITK else partial(read_as_nnunet_does, dataset_json=content)


def _in_folders(dataset: RawDataset, part: str, read: Callable[[Path], sitk.Image] | None) -> dict[str, Files]:
    pattern = re.compile(rf"(?P<case>.+)_(?P<channel>\d{{4}}){re.escape(dataset.file_ending)}")
    images: dict[str, list[Source]] = {}
    folder = dataset.folder / f"images{part}"
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if match := pattern.fullmatch(path.name):
            images.setdefault(match["case"], []).append(Source(path, read))
        elif path.name.endswith(dataset.file_ending) and not path.name.startswith("."):
            dataset.findings.append(f"{path}: the name must end in _0000{dataset.file_ending}. Rename it.")
    labels = _labels_in(dataset, part, images)
    return {
        case: (tuple(found), Source(labels[case], read) if case in labels else None) for case, found in images.items()
    }


def _labels_in(dataset: RawDataset, part: str, images: Collection[str]) -> dict[str, Path]:
    folder = dataset.folder / f"labels{part}"
    files = sorted(folder.glob(f"*{dataset.file_ending}")) if folder.is_dir() else []
    labels = {path.name.removesuffix(dataset.file_ending): path for path in files if not path.name.startswith(".")}
    for case in sorted(labels.keys() - set(images)):
        dataset.findings.append(
            f"{labels[case]}: has no image {case}_0000{dataset.file_ending} in images{part}. Rename or remove it."
        )
    return labels


def _listed(folder: Path, path: Path, case: str, entry: Any, read: Callable[[Path], sitk.Image] | None) -> Files:
    try:
        images, label = list(entry["images"]), entry["label"]
        if not images:
            raise TypeError("no image")
        return (
            tuple(Source(folder / os.path.expandvars(image), read) for image in images),
            Source(folder / os.path.expandvars(label), read),
        )
    except (KeyError, TypeError) as error:
        raise UserError(
            f'{path}: the entry of {case} under "dataset" must hold "images" and "label". Correct it.'
        ) from error


def _check_files(dataset: RawDataset, files: Mapping[str, Files]) -> None:
    expected = 1 if dataset.file_ending in ONE_FILE_FOR_ALL_CHANNELS else len(dataset.channel_names)
    for case, (images, label) in files.items():
        if len(images) != expected:
            names = ", ".join(sorted(image.path.name for image in images))
            dataset.findings.append(
                f"{images[0].path}: the case has {len(images)} of {expected} channels ({names}). Add the missing "
                f"files, or correct channel_names in {dataset.folder / 'dataset.json'}."
            )
        for source in (*images, *([label] if label else [])):
            if not source.path.is_file():
                dataset.findings.append(f"{source.path}: is missing; {case} needs it. Add it, or remove the case.")


def _check_labels(path: Path, labels: Mapping[str, Any]) -> None:
    values = [each for entry in labels.values() for each in (entry if isinstance(entry, list) else [entry])]
    if labels.get("background") != 0 or not all(isinstance(value, int) for value in values):
        raise UserError(
            f'{path}: labels must be like {{"background": 0, "organ": 1}} (a list of numbers for a region), got '
            f"{dict(labels)}. Correct it."
        )


def _entry(path: Path, content: Mapping[str, Any], key: str, kind: type) -> Any:
    if not isinstance(content.get(key), kind) or not content[key]:
        raise UserError(
            f"{path} lacks {key!r}, got {content.get(key)!r}. It must be nnU-Net's dataset.json (version 2), or one of "
            "the Decathlon. Add the entry."
        )
    return content[key]


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")
