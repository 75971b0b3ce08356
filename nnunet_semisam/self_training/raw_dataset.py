"""The raw dataset of a round: images as links, true labels of labeled cases, pseudo-labels of chosen cases.

It has the name of the dataset that the self-training began with, in an ``nnUNet_raw`` of its own: no dataset of the
user is written to, and models of all rounds are models of one dataset.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_semisam.data.dataset_json import IGNORE, ignore_label
from nnunet_semisam.data.datasets import PlannedDataset
from nnunet_semisam.data.raw_files import LIST, image_files, label_files
from nnunet_semisam.data.tif_spacing import spacing_file
from nnunet_semisam.io.atomic import write_symlink
from nnunet_semisam.io.json_files import write_json
from nnunet_semisam.self_training.plan import FoldCases
from nnunet_semisam.splits.label_budgets import GROUPS_FILE


def voxels_per_label(label: np.ndarray, ignore: int) -> dict[str, int]:
    """Return value, or ``ignore``, -> number of voxels of a label map.

    Example:
        >>> voxels_per_label(np.array([0, 0, 2, 3]), ignore=3)
        {'0': 2, '2': 1, 'ignore': 1}
    """
    values, counts = np.unique(label, return_counts=True)
    return {
        IGNORE if value == ignore else str(int(value)): int(count) for value, count in zip(values, counts, strict=True)
    }


def dataset_json_with_ignore(dataset_json: Mapping[str, Any], cases: int) -> dict[str, Any]:
    """Return the ``dataset.json`` of a round, which has an ignore label and finds its cases by their files."""
    content = {name: value for name, value in dataset_json.items() if name != LIST}
    content["labels"] = {**dataset_json["labels"], IGNORE: ignore_label(dataset_json)}
    content["numTraining"] = cases
    return content


def write_raw(
    folder: Path, dataset: PlannedDataset, cases: FoldCases, pseudo_labels: Mapping[str, Path]
) -> dict[str, Any]:
    """Write the raw dataset of a round.

    Args:
        folder: ``$nnUNet_raw/DATASET`` of the round; it is made.
        dataset: The dataset that the self-training began with.
        cases: Its cases; labels of :attr:`FoldCases.with_labels` and of no other case are opened.
        pseudo_labels: Chosen case of the pool -> the file of its pseudo-label.

    Returns:
        The content of its ``dataset.json``.
    """
    ending = dataset.dataset_json["file_ending"]
    images, labels = image_files(dataset.raw, dataset.dataset_json), label_files(dataset.raw, dataset.dataset_json)
    known = {**images["Ul"], **images["Tr"]}
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for case in (*cases.with_labels, *pseudo_labels):
        for channel, image in enumerate(known[case]):
            write_symlink(folder / "imagesTr" / f"{case}_{channel:04d}{ending}", Path(image).resolve())
        spacing = spacing_file(Path(known[case][0]))
        for name in ("imagesTr", "labelsTr") if spacing is not None else ():  # a label lies as its image does
            write_symlink(folder / name / f"{case}.json", spacing.resolve())
    for case in cases.with_labels:
        shutil.copyfile(labels[case], folder / "labelsTr" / f"{case}{ending}")
    for case, label in pseudo_labels.items():
        link_or_copy(label, folder / "labelsTr" / f"{case}{ending}")
    content = dataset_json_with_ignore(dataset.dataset_json, len(cases.with_labels) + len(pseudo_labels))
    write_json(folder / "dataset.json", content)
    if (dataset.raw / GROUPS_FILE).is_file():
        shutil.copyfile(dataset.raw / GROUPS_FILE, folder / GROUPS_FILE)
    return content


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name or, where the file system has no such links, copy it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def images_in_order(folder: Path, cases: Sequence[str], dataset_json: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return case -> its images in the raw dataset of a round."""
    images = image_files(folder, dataset_json)["Tr"]
    return {case: images[case] for case in cases}
