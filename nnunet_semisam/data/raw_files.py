"""Which files of a raw dataset belong to which case: those that ``dataset.json`` lists, or all in its folders.

nnU-Net trains on the cases under ``"dataset"`` in ``dataset.json`` where there are any, wherever their files lie, and
then looks at no other file of imagesTr and labelsTr. So do splits, or they would name cases that are never
preprocessed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nnunet_semisam.data.dataset_json import file_ending
from nnunet_semisam.errors import UserError, name_some, shown
from nnunet_semisam.io.names import case_problem, check_case_name, check_distinct

PARTS = ("Tr", "Ul", "Ts")
LIST = "dataset"
Files = dict[str, tuple[str, ...]]


def image_files(raw: Path, dataset_json: Mapping[str, Any]) -> dict[str, Files]:
    """Return part (``Tr``, ``Ul``, ``Ts``) -> case -> the image files of its channels, in their order.

    Files of ``imagesUl`` whose names cannot be those of cases are left out here: preprocessing names them, and nothing
    is trained on what is not preprocessed.

    Raises:
        UserError: If the list in ``dataset.json`` is malformed, or a name in another folder cannot be a case's.
    """
    ending = file_ending(dataset_json, raw / "dataset.json")
    found = {part: images_in(raw / f"images{part}", ending) for part in PARTS}
    if LIST in dataset_json:
        found["Tr"] = {case: images for case, images, _ in _listed(raw, dataset_json)}
    found["Ul"] = {case: images for case, images in found["Ul"].items() if case_problem(case) is None}
    for part in ("Tr", "Ts"):
        _check_names(found[part], raw / f"images{part}")
    return found


def label_files(raw: Path, dataset_json: Mapping[str, Any]) -> dict[str, Path]:
    """Return labeled case -> its label, sorted by case.

    Raises:
        UserError: If the list in ``dataset.json`` is malformed, or a name cannot be a case's.
    """
    if LIST in dataset_json:
        return dict(sorted((case, Path(label)) for case, _, label in _listed(raw, dataset_json)))
    ending = file_ending(dataset_json, raw / "dataset.json")
    files = sorted(_visible(raw / "labelsTr", f"*{ending}"))
    labels = {file.name.removesuffix(ending): file for file in files}
    _check_names(labels, raw / "labelsTr")
    return labels


def notes_on_unused(raw: Path, dataset_json: Mapping[str, Any]) -> list[str]:
    """Return a sentence on images of ``imagesTr`` that no fold can use, since they have no label; or none.

    With a list in ``dataset.json`` nnU-Net takes the listed cases and no others, and so does the sentence.
    """
    images, labels = image_files(raw, dataset_json)["Tr"], label_files(raw, dataset_json)
    without = sorted(set(images) - set(labels))
    if not without:
        return []
    label = f"labelsTr/CASE{file_ending(dataset_json)}"
    return [
        f"{len(without)} image(s) of {raw / 'imagesTr'} have no label ({label}) and are in no fold: "
        f"{name_some(without, 5)}. Move them to imagesUl to train on them without labels."
    ]


def describe_labels(raw: Path, dataset_json: Mapping[str, Any]) -> str:
    """Return where the labels of a raw dataset are looked for, for messages."""
    if LIST in dataset_json:
        return f'the list "{LIST}" of {raw / "dataset.json"}'
    return f"{raw / 'labelsTr'} (files ending in {dataset_json['file_ending']})"


def images_in(folder: Path, file_ending: str) -> Files:
    """Return case -> image files of its channels, of a folder in nnU-Net's naming; names are not checked."""
    cases: dict[str, list[str]] = {}
    for file in sorted(_visible(folder, f"*_[0-9][0-9][0-9][0-9]{file_ending}")):
        cases.setdefault(file.name.removesuffix(file_ending)[:-5], []).append(str(file))
    return {case: tuple(files) for case, files in cases.items()}


def _check_names(cases: Iterable[str], folder: Path) -> None:
    cases = list(cases)
    for case in cases:
        check_case_name(case, str(folder))
    check_distinct(cases, str(folder))


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
    check_distinct(entries, f'{where}, "{LIST}"')
    for case, entry in entries.items():
        check_case_name(case, f'{where}, "{LIST}"')
        images, label = (entry.get("images"), entry.get("label")) if isinstance(entry, dict) else (None, None)
        if not isinstance(images, list) or not images or not all(_is_file_name(name) for name in (*images, label)):
            raise UserError(
                f'{where}: the entry of {case} under "{LIST}" must hold a list "images" and a file "label", got '
                f"{shown(entry)}. Correct it."
            )
        yield case, tuple(_resolve(raw, image) for image in images), _resolve(raw, label)


def _is_file_name(name: Any) -> bool:
    return isinstance(name, str) and bool(name) and "\0" not in name


def _resolve(raw: Path, file: str) -> str:
    return str(raw / os.path.expandvars(file))  # relative to the dataset, as nnU-Net takes it
