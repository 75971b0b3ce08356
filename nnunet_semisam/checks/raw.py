"""What would stop the planning of a raw dataset: looked at by names and ``dataset.json``, no image is opened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_semisam.checks.findings import Finding, note, ok, stops
from nnunet_semisam.data.dataset_json import channel_names, read_dataset_json
from nnunet_semisam.data.raw_files import LIST, Files, describe_labels, image_files, label_files
from nnunet_semisam.errors import UserError, name_some, shown

DATASET_JSON = (
    '{"channel_names": {"0": "MRI"}, "labels": {"background": 0, "organ": 1}, "numTraining": 3, '
    '"file_ending": ".nii.gz"}'
)
FOLDERS = {"Tr": "imagesTr", "Ul": "imagesUl", "Ts": "imagesTs"}


def look_at_raw(raw: Path) -> list[Finding]:
    """Return what is wrong with the names in a raw dataset: what stops nnU-Net or a training, and what is left out.

    Args:
        raw: ``$nnUNet_raw/DATASET``.
    """
    file = raw / "dataset.json"
    if not file.is_file():
        return [stops("dataset.json", f"there is no {file}", f"write it, for example: {DATASET_JSON}")]
    try:
        dataset_json = read_dataset_json(file)
        images, labels = image_files(raw, dataset_json), label_files(raw, dataset_json)
    except UserError as error:
        return [stops("dataset.json", str(error))]
    findings = [
        *_look_at_pairs(raw, dataset_json, images["Tr"], labels),
        *_look_at_channels(images, len(channel_names(dataset_json))),
        *_look_at_unlabeled(raw, dataset_json, images),
    ]
    counts = ", ".join(f"{len(images[part])} cases in {folder}" for part, folder in FOLDERS.items() if images[part])
    return [*findings, ok("raw files", f"{counts or 'no image'}, {len(labels)} with labels")]


def _look_at_pairs(
    raw: Path, dataset_json: Mapping[str, Any], images: Files, labels: Mapping[str, Path]
) -> list[Finding]:
    findings = []
    where = describe_labels(raw, dataset_json)
    if not labels:
        return [stops("labels", f"there is none in {where}", "add the labels, or correct file_ending")]
    without = sorted(labels.keys() - images.keys())
    if without:
        found = f"labels without an image, which nobody uses: {name_some(without, 5)}"
        findings.append(note("images", found, f"add imagesTr/CASE_0000{dataset_json['file_ending']}"))
    unlabeled = sorted(images.keys() - labels.keys())
    if unlabeled and LIST not in dataset_json:
        found = f"images of imagesTr without a label: {name_some(unlabeled, 5)}"
        findings.append(stops("labels", found, "move these images to imagesUl: nnU-Net stops at them"))
    told = dataset_json.get("numTraining")
    if told != len(labels):
        fix = f'"numTraining": {len(labels)}'
        found = (
            f"numTraining is {shown(told)}, and {len(labels)} cases have labels: --verify_dataset_integrity stops there"
        )
        findings.append(note("dataset.json", found, fix))
    return findings


def _look_at_channels(images: Mapping[str, Files], channels: int) -> list[Finding]:
    findings = []
    for part, cases in images.items():
        wrong = sorted(case for case, files in cases.items() if len(files) != channels)
        if wrong:
            found = f"cases of {FOLDERS[part]} that have not {channels} channel(s): {name_some(wrong, 5)}"
            level = stops if part == "Tr" else note  # an unlabeled case is left out, and a test case not trained on
            findings.append(level("channels", found, "one file per channel: CASE_0000, CASE_0001, ..."))
    return findings


def _look_at_unlabeled(raw: Path, dataset_json: Mapping[str, Any], images: Mapping[str, Files]) -> list[Finding]:
    folder = raw / FOLDERS["Ul"]
    if not folder.is_dir():
        return [note("imagesUl", f"there is no {folder}", "unlabeled cases go there, unless folds hide labels")]
    used = {Path(file).name for files in images["Ul"].values() for file in files}
    others = sorted(file.name for file in folder.iterdir() if not file.name.startswith(".") and file.name not in used)
    findings = []
    if others:
        found = f"files that are no images of a case: {name_some(others, 5)}"
        findings.append(note("imagesUl", found, f"name them CASE_0000{dataset_json['file_ending']}; they are left out"))
    for part, level in (("Tr", note), ("Ts", stops)):  # the first are left out, the second would train on a test image
        twice = sorted(images["Ul"].keys() & images[part].keys())
        if twice:
            found = f"cases that are also in {FOLDERS[part]}: {name_some(twice, 5)}"
            findings.append(level("imagesUl", found, "remove them from imagesUl, or give other cases other names"))
    return findings
