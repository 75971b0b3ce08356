"""The unlabeled cases of a fold as raw images: all that the annotator can be asked about."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nnunet_semisam.data.datasets import PlannedDataset
from nnunet_semisam.data.raw_files import image_files, label_files
from nnunet_semisam.errors import UserError, name_some
from nnunet_semisam.splits.default_splits import SPLITS_FILE
from nnunet_semisam.splits.folds import Fold, read_fold


@dataclass(frozen=True)
class Pool:
    """Which cases have labels that may be seen, and which have images only.

    Attributes:
        images: Unlabeled case -> image files of its channels, sorted by case.
        labeled: Labeled case -> image files, of the fold's training and validation.
        fold: The fold's lists.
    """

    images: Mapping[str, Sequence[str]]
    labeled: Mapping[str, Sequence[str]]
    fold: Fold


def unlabeled_pool(dataset: PlannedDataset, fold: str, only: Sequence[str] = ()) -> Pool:
    """Return the unlabeled cases of a fold: ``imagesUl``, and the cases whose labels the fold hides.

    Only names of label files are looked at; none is opened.

    Args:
        dataset: The dataset.
        fold: Number of the fold, or ``all``.
        only: Cases to keep; empty keeps all.

    Raises:
        UserError: If the fold is malformed, a case of ``only`` is not in the pool, or the pool is empty.
    """
    files = image_files(dataset.raw, dataset.dataset_json)
    with_label = list(label_files(dataset.raw, dataset.dataset_json))
    splits = next(
        (
            folder / SPLITS_FILE
            for folder in (dataset.preprocessed, dataset.raw)
            if os.path.lexists(folder / SPLITS_FILE)
        ),
        dataset.preprocessed / SPLITS_FILE,
    )
    lists = read_fold(splits, fold, with_label)
    known = {**files["Tr"], **files["Ul"]}
    lacking = [case for case in (*lists.train, *lists.val, *lists.unlabeled) if case not in known]
    if lacking:
        raise UserError(f"{dataset.raw} lacks the images of {name_some(lacking)}, which fold {fold} names. Add them.")
    images = {case: known[case] for case in sorted({*files["Ul"], *lists.unlabeled} - {*lists.train, *lists.val})}
    unknown = [case for case in only if case not in images]
    if unknown:
        raise UserError(
            f"{name_some(unknown)}: no unlabeled case of fold {fold}. They are: {name_some(list(images)) or 'none'}."
        )
    if not images:
        raise UserError(
            f"Fold {fold} of {dataset.raw.name} has no unlabeled case: put images into {dataset.raw / 'imagesUl'}, or "
            'name cases under "unlabeled" in splits_final.json.'
        )
    labeled = {case: known[case] for case in sorted({*lists.train, *lists.val})}
    return Pool({case: images[case] for case in sorted(only or images)}, labeled, lists)
