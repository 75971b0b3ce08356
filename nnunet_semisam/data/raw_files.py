"""Which files of a raw dataset belong to which case: those that ``dataset.json`` lists, or all in its folders.

nnU-Net trains on the cases under ``"dataset"`` in ``dataset.json`` where there are any, wherever their files lie, and
then looks at no other file of imagesTr and labelsTr. So do splits, or they would name cases that are never
preprocessed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nnunet_semisam.errors import UserError

PARTS = ("Tr", "Ul", "Ts")
LIST = "dataset"
Files = dict[str, tuple[str, ...]]


def image_files(raw: Path, dataset_json: Mapping[str, Any]) -> dict[str, Files]:
    """Return part (``Tr``, ``Ul``, ``Ts``) -> case -> the image files of its channels, in their order.

    Raises:
        UserError: If the list in ``dataset.json`` is malformed.
    """
    found = {part: _images_in(raw / f"images{part}", dataset_json["file_ending"]) for part in PARTS}
    if LIST in dataset_json:
        found["Tr"] = {case: images for case, images, _ in _listed(raw, dataset_json)}
    return found


def label_files(raw: Path, dataset_json: Mapping[str, Any]) -> dict[str, Path]:
    """Return labeled case -> its label, sorted by case.

    Raises:
        UserError: If the list in ``dataset.json`` is malformed.
    """
    if LIST in dataset_json:
        return dict(sorted((case, Path(label)) for case, _, label in _listed(raw, dataset_json)))
    ending = dataset_json["file_ending"]
    files = sorted(_visible(raw / "labelsTr", f"*{ending}"))
    return {file.name.removesuffix(ending): file for file in files}


def describe_labels(raw: Path, dataset_json: Mapping[str, Any]) -> str:
    """Return where the labels of a raw dataset are looked for, for messages."""
    if LIST in dataset_json:
        return f'the list "{LIST}" of {raw / "dataset.json"}'
    return f"{raw / 'labelsTr'} (files ending in {dataset_json['file_ending']})"


def _images_in(folder: Path, file_ending: str) -> Files:
    cases: dict[str, list[str]] = {}
    for file in sorted(_visible(folder, f"*_[0-9][0-9][0-9][0-9]{file_ending}")):
        cases.setdefault(file.name.removesuffix(file_ending)[:-5], []).append(str(file))
    return {case: tuple(files) for case, files in cases.items()}


def _visible(folder: Path, pattern: str) -> Iterator[Path]:
    """Yield files without what file managers leave behind, such as ``._case_0000.nii.gz``."""
    return (file for file in folder.glob(pattern) if not file.name.startswith("."))


def _listed(raw: Path, dataset_json: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...], str]]:
    entries, where = dataset_json[LIST], raw / "dataset.json"
    if not isinstance(entries, dict):
        raise UserError(
            f'{where}: "{LIST}" must map cases to their "images" and "label", got a {type(entries).__name__}. Correct '
            "it, or remove it to use all files of imagesTr and labelsTr."
        )
    for case, entry in entries.items():
        try:
            if not isinstance(entry["images"], list) or not entry["images"]:
                raise TypeError("images is no list of files")
            images, label = [_resolve(raw, image) for image in entry["images"]], _resolve(raw, entry["label"])
        except (KeyError, TypeError) as error:
            raise UserError(
                f'{where}: the entry of {case} under "{LIST}" must hold a list "images" and a file "label", got '
                f"{entry!r}. Correct it."
            ) from error
        yield case, tuple(images), label


def _resolve(raw: Path, file: str) -> str:
    return str(raw / os.path.expandvars(file))  # relative to the dataset, as nnU-Net takes it
