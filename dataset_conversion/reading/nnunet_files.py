"""Where an existing dataset is, and which file is which case in nnU-Net's raw format."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_semisam.data.channel_files import files_can_be_all
from nnunet_semisam.data.dataset_json import channel_names, file_ending
from nnunet_semisam.errors import UserError, name_some, shown
from nnunet_semisam.io.json_files import read_object

from .msd_files import read_msd
from .nnunet_readers import FileReader, reader_of
from .raw_dataset import (
    CaseFiles,
    RawDataset,
    check_labels,
    check_region_order,
    entry,
    further_entries,
    visible_files,
)


@dataclass(frozen=True)
class ListedCase:
    """A case as ``dataset.json`` lists it.

    Attributes:
        images: One file per channel.
        label: Its label.
    """

    images: list[Path]
    label: Path


def find_raw_dataset(name: Path) -> Path:
    """Return the folder of a dataset that is given as a folder, or by id or name below ``nnUNet_raw``.

    Raises:
        UserError: If there is no such dataset, or more than one of that id.
    """
    raw = os.environ.get("nnUNet_raw")
    choices = [name]
    if raw and len(name.parts) == 1:
        is_id = re.fullmatch("[0-9]{1,3}", name.name)
        found = Path(raw).glob(f"Dataset{int(name.name):03d}_*") if is_id else [Path(raw) / name]
        choices += sorted(path for path in found if _is_dataset(path))
    if len(choices) > 2 and not _is_dataset(name):
        raise UserError(
            f"-i {name} is the id of {name_some([choice.name for choice in choices[1:]])} in {raw}. Give the name of "
            "one of them."
        )
    for choice in choices:
        if _is_dataset(choice):
            return choice
    raise UserError(
        f"-i {name} must be a dataset: a folder with dataset.json, imagesTr and labelsTr, or the id or name of one in "
        f"nnUNet_raw ({raw or 'not set'}). Give its path."
    )


def _is_dataset(folder: Path) -> bool:
    return os.path.lexists(folder / "dataset.json")  # whatever it is: its reader says what is wrong with it


def read_raw_dataset(folder: Path) -> RawDataset:
    """List the files of a dataset; at most one image is opened.

    Raises:
        UserError: If ``dataset.json`` is malformed, or there is no training case.
    """
    path = folder / "dataset.json"
    content = read_object(path, "Correct it.")
    is_msd = "modality" in content and "channel_names" not in content  # some keep the Decathlon's entries in nnU-Net's
    dataset = read_msd(folder, content) if is_msd else _read_nnunet(folder, content)
    if not dataset.train:
        found = f" {dataset.findings[0].text}" if dataset.findings else ""
        raise UserError(
            f"{folder} has no training case with a label that ends in {dataset.file_ending}, the file_ending of "
            f"dataset.json. Correct it, or put images in imagesTr and labels in labelsTr.{found}"
        )
    return dataset


def _read_nnunet(folder: Path, content: Mapping[str, Any]) -> RawDataset:
    path = folder / "dataset.json"
    dataset = RawDataset(
        folder=folder,
        channel_names=channel_names({"channel_names": entry(path, content, "channel_names", dict)}, path),
        labels=entry(path, content, "labels", dict),
        file_ending=file_ending({"file_ending": entry(path, content, "file_ending", str)}, path),
        more_json=further_entries(content),
    )
    check_labels(path, dataset.labels)
    check_region_order(path, dataset.labels, content.get("regions_class_order"))
    listed = _listed(folder, path, entry(path, content, "dataset", dict)) if "dataset" in content else {}
    examples = [case.images[0] for case in listed.values()]
    reader = reader_of(path, content, examples or visible_files(folder / "imagesTr", dataset.file_ending))
    if listed:
        _take_listed(dataset, listed, reader)
    else:
        found = _in_folders(dataset, "Tr", reader)
        dataset.train = {case: files for case, files in found.items() if files.label is not None}
        dataset.bare = sorted(found.keys() - dataset.train.keys())
        dataset.unlabeled = {case: found[case] for case in dataset.bare}
    for case, files in _in_folders(dataset, "Ul", reader).items():
        if case in dataset.unlabeled:
            image = files.images[0].path
            dataset.find(case, f"{image}: the same case, without a label, is in imagesTr. Rename or remove one of them")
        dataset.unlabeled[case] = CaseFiles(files.images)
    dataset.test = _in_folders(dataset, "Ts", reader)
    dataset.find_wrong_files()
    _note_spacing(dataset, reader)
    dataset.note_unused(_beside(dataset))
    return dataset


def _take_listed(dataset: RawDataset, listed: Mapping[str, ListedCase], reader: FileReader) -> None:
    images = []
    for case, files in listed.items():
        if len({os.path.abspath(image) for image in files.images}) < len(files.images):
            dataset.find(case, f"{files.images[0]}: {case} lists it for two channels. Correct dataset.json")
        dataset.train[case] = CaseFiles(tuple(reader.image(image) for image in files.images), reader.label(files.label))
        _check_count(dataset, case, files.images, reader)
        images += files.images
    dataset.note_unlisted("Tr", images)


def _in_folders(dataset: RawDataset, part: str, reader: FileReader) -> dict[str, CaseFiles]:
    pattern = re.compile(rf"(?P<case>.+)_(?P<channel>\d{{4}}){re.escape(dataset.file_ending)}", re.DOTALL)
    images: dict[str, list[Path]] = {}
    for path in visible_files(dataset.folder / f"images{part}", dataset.file_ending):
        match = pattern.fullmatch(path.name)
        if match:
            images.setdefault(match["case"], []).append(path)
        else:
            case = path.name.removesuffix(dataset.file_ending)
            dataset.find(case, f"{path}: the name must end in _0000{dataset.file_ending}. Rename it")
    for case, paths in images.items():
        if _check_count(dataset, case, paths, reader):
            _check_numbers(dataset, case, paths)
    labels = _labels_in(dataset, part, images)
    found = {}
    for case, paths in images.items():
        label = reader.label(labels[case]) if case in labels else None
        found[case] = CaseFiles(tuple(reader.image(path) for path in paths), label)
    return found


def _labels_in(dataset: RawDataset, part: str, images: Mapping[str, Sequence[Path]]) -> dict[str, Path]:
    files = visible_files(dataset.folder / f"labels{part}", dataset.file_ending)
    labels = {path.name.removesuffix(dataset.file_ending): path for path in files}
    for case in sorted(labels.keys() - images.keys()):
        dataset.find(
            case,
            f"{labels[case]}: has no image {case}_0000{dataset.file_ending} in images{part}. Rename or remove it",
        )
    return labels


def _listed(folder: Path, path: Path, cases: Mapping[str, Any]) -> dict[str, ListedCase]:
    """Return case -> images and label, as ``dataset.json`` lists them."""
    found = {}
    for case, files in cases.items():
        try:
            images, label = files["images"], files["label"]
            if not isinstance(images, list) or not images or not all(map(_is_path, [*images, label])):
                raise TypeError("no list of images")
            found[case] = ListedCase(
                images=[folder / os.path.expandvars(image) for image in images],
                label=folder / os.path.expandvars(label),
            )
        except (KeyError, TypeError) as error:
            raise UserError(
                f'{path}: the entry of {shown(case)} under "dataset" must hold "images" (a list) and "label", got '
                f"{shown(files)}. Correct it."
            ) from error
    return found


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and "\0" not in value


def _beside(dataset: RawDataset) -> list[Path]:
    everything = [*dataset.train.values(), *dataset.unlabeled.values(), *dataset.test.values()]
    sources = [source for files in everything for source in (*files.images, files.label) if source is not None]
    return [source.beside for source in sources if source.beside is not None]


def _check_count(dataset: RawDataset, case: str, images: Sequence[Path], reader: FileReader) -> bool:
    """Compare the number of files with that of channels; what one file holds is seen when it is read."""
    expected = len(dataset.channel_names)
    if files_can_be_all(len(images), expected, reader.kind):
        return True
    names = ", ".join(image.name for image in images)
    dataset.find(
        case,
        f"{images[0]}: the case has {len(images)} of {expected} channels ({names}). Add the missing files (one per "
        f"channel), or correct channel_names in {dataset.folder / 'dataset.json'}",
    )
    return False


def _check_numbers(dataset: RawDataset, case: str, images: Sequence[Path]) -> None:
    """Refuse gaps: nnU-Net would take the files in their order, so another channel than in other cases."""
    names = [f"{case}_{i:04d}{dataset.file_ending}" for i in range(len(images))]
    if [image.name for image in images] != names:
        dataset.find(
            case,
            f"{images[0]}: the channels must be numbered without a gap ({', '.join(names)}), got "
            f"{', '.join(image.name for image in images)}. Add or rename files",
        )


def _note_spacing(dataset: RawDataset, reader: FileReader) -> None:
    """Tell which volumes have no spacing: nnU-Net only prints a line for each while it trains."""
    if not reader.spacing_beside:
        return
    everything = {**dataset.train, **dataset.unlabeled, **dataset.test}
    without = [case for case, files in everything.items() if files.images[0].beside is None]
    if without:
        dataset.notes.append(
            f"{len(without)} cases have no json file with their spacing beside the image, and nnU-Net takes 1 mm along "
            f"every axis: {name_some(without)}"
        )
