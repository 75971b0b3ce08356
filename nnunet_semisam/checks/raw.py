"""What would stop the planning of a raw dataset: told from names and ``dataset.json``, no image is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nnunet_semisam.checks.findings import Finding, note, ok, stops
from nnunet_semisam.data.dataset_json import channel_names, file_ending, read_dataset_json
from nnunet_semisam.data.raw_files import LIST, Files, describe_labels, image_files, label_files
from nnunet_semisam.errors import UserError, name_some, shown

DATASET_JSON = (
    '{"channel_names": {"0": "MRI"}, "labels": {"background": 0, "organ": 1}, "numTraining": 3, '
    '"file_ending": ".nii.gz"}'
)
FOLDERS = {"Tr": "imagesTr", "Ul": "imagesUl", "Ts": "imagesTs"}
COLOURS_IN_ONE_FILE = (".png", ".bmp", ".tif")  # nnU-Net reads all channels of a photo from one file


def look_at_raw(raw: Path) -> list[Finding]:
    """Return what in the names of a raw dataset stops nnU-Net, and what is left out or worth knowing.

    Args:
        raw: ``$nnUNet_raw/DATASET``.
    """
    file = raw / "dataset.json"
    if not file.is_file():
        return [stops("dataset.json", f"there is no {file}", f"write it, for example: {DATASET_JSON}")]
    try:
        dataset_json = read_dataset_json(file)
    except UserError as error:
        return [stops("dataset.json", str(error))]
    try:
        images, labels = image_files(raw, dataset_json), label_files(raw, dataset_json)
    except UserError as error:
        return [stops("raw files", str(error))]
    findings = [
        *_look_at_dataset_json(dataset_json, len(images["Tr"])),
        *_look_at_training_files(raw, dataset_json, images["Tr"], labels),
        *_look_at_channels(images, dataset_json),
        *_look_at_unlabeled(raw, dataset_json, images),
    ]
    counts = ", ".join(f"{len(images[part])} cases in {folder}" for part, folder in FOLDERS.items() if images[part])
    return [*findings, ok("raw files", f"{counts or 'no image'}, {len(labels)} with labels")]


def _look_at_dataset_json(dataset_json: Mapping[str, Any], cases: int) -> Iterator[Finding]:
    if "labels" not in dataset_json:
        yield stops("dataset.json", "it has no labels", 'add for example "labels": {"background": 0, "organ": 1}')
    fix = f'"numTraining": {cases}'
    if "numTraining" not in dataset_json:
        yield stops("dataset.json", "it has no numTraining, which the planner reads", fix)
    elif dataset_json["numTraining"] != cases:
        told = shown(dataset_json["numTraining"])
        yield note("dataset.json", f"numTraining is {told}, of {cases} cases: the plans depend on it", fix)


def _look_at_training_files(
    raw: Path, dataset_json: Mapping[str, Any], images: Files, labels: Mapping[str, Path]
) -> Iterator[Finding]:
    ending, folder = file_ending(dataset_json), raw / FOLDERS["Tr"]
    if LIST in dataset_json:
        listed = [Path(file) for files in images.values() for file in files] + list(labels.values())
        gone = [str(file) for file in listed if not file.is_file()]
        if gone:
            yield stops("raw files", f"files that dataset.json lists are not there: {name_some(gone, 3)}")
        return
    used = {Path(file).name for files in images.values() for file in files}
    others = sorted(file.name for file in folder.glob(f"*{ending}") if file.name not in used) if folder.is_dir() else []
    if others:  # hidden ones, which file managers leave behind, included
        found = f"nnU-Net takes every file with {ending} for a channel of a case: {name_some(others, 5)}"
        yield stops("imagesTr", found, f"name them CASE_0000{ending}, or remove them")
    if not images.keys() & labels.keys():
        where = describe_labels(raw, dataset_json)
        yield stops("raw files", f"no case has an image in {folder} and a label in {where}", "see that names fit")
        return
    unlabeled = sorted(images.keys() - labels.keys())
    if unlabeled:
        found = f"without a label: {name_some(unlabeled, 5)}"
        yield stops("imagesTr", found, "move these images to imagesUl: nnU-Net stops at them")
    without = sorted(labels.keys() - images.keys())
    if without:
        found = f"without an image, and so not used: {name_some(without, 5)}"
        yield note("labelsTr", found, f"add imagesTr/CASE_0000{ending}")


def _look_at_channels(images: Mapping[str, Files], dataset_json: Mapping[str, Any]) -> Iterator[Finding]:
    channels = len(channel_names(dataset_json))
    right = {channels, 1} if file_ending(dataset_json) in COLOURS_IN_ONE_FILE else {channels}
    for part, cases in images.items():
        wrong = sorted(case for case, files in cases.items() if len(files) not in right)
        if wrong:
            found = f"not {channels} channel(s): {name_some(wrong, 5)}"
            level: Callable[..., Finding] = stops if part == "Tr" else note  # others are left out, or not trained on
            yield level(FOLDERS[part], found, "one file per channel: CASE_0000, CASE_0001, ...")


def _look_at_unlabeled(raw: Path, dataset_json: Mapping[str, Any], images: Mapping[str, Files]) -> Iterator[Finding]:
    folder = raw / FOLDERS["Ul"]
    if not folder.is_dir():
        yield note("imagesUl", f"there is no {folder}", "unlabeled cases go there, unless folds hide labels")
        return
    used = {Path(file).name for files in images["Ul"].values() for file in files}
    others = sorted(file.name for file in folder.iterdir() if not file.name.startswith(".") and file.name not in used)
    if others:
        found = f"no images of a case, and so left out: {name_some(others, 5)}"
        yield note("imagesUl", found, f"name them CASE_0000{file_ending(dataset_json)}")
    for part, what in (("Tr", "they are left out"), ("Ts", "a training would see test images")):
        twice = sorted(images["Ul"].keys() & images[part].keys())
        if twice:
            found = f"also in {FOLDERS[part]}: {name_some(twice, 5)}"
            yield note("imagesUl", found, f"remove them from imagesUl ({what}), or name other cases otherwise")
