"""Reading, checking, making and writing ``splits_final.json``, with a third list per fold: ``"unlabeled"``.

The file is nnU-Net's own: a list of folds, each with the case identifiers of ``"train"`` and ``"val"``. A fold may also
list ``"unlabeled"`` cases: they have a label on disk that training must never see. Stock trainers ignore that key.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_semisam.errors import UserError, name_some, shown
from nnunet_semisam.io.json_files import read_json, write_json
from nnunet_semisam.io.names import check_case_name

LISTS = ("train", "val", "unlabeled")
MISSPELT = re.compile(r"un-?_?label.*|train.*|val.*|hidden.*", re.IGNORECASE)  # what somebody meant to be one of LISTS
Split = dict[str, list[str]]  # a fold as it stands in the file: one of LISTS -> case identifiers
FRAME_SUFFIX = re.compile(r"[_-]?frame[_-]?\d+$", re.IGNORECASE)


@dataclass(frozen=True)
class Fold:
    """Case identifiers of one fold.

    Attributes:
        train: Cases whose labels are used for training.
        val: Cases of nnU-Net's validation.
        unlabeled: Cases of the preprocessed training folder whose images may be used, and whose labels must not.
        ignored: Further entries of the fold in the file, which nothing reads.
    """

    train: list[str]
    val: list[str]
    unlabeled: list[str]
    ignored: tuple[str, ...] = ()


def default_group(case: str) -> str:
    """Return the key of the group (patient) that a case belongs to.

    Cases of one group never end up on both sides of a split. Identifiers that end in a frame number belong to what
    stands before it (``patient001_frame01`` -> ``patient001``); every other case is a group of its own.
    """
    return FRAME_SUFFIX.sub("", case) or case


def read_fold(splits_file: Path, fold: int | str, all_cases: Sequence[str]) -> Fold:
    """Return the checked cases of one fold.

    Args:
        splits_file: ``nnUNet_preprocessed/DATASET/splits_final.json``.
        fold: Index of the fold, or ``"all"``: train and validate on every case (needs no file, as in nnU-Net).
        all_cases: Identifiers of the preprocessed cases that have labels, hidden ones included.

    Raises:
        UserError: If the file is missing or malformed, the fold is not in it, ``"all"`` is asked for while a fold
            hides labels, a case does not exist or is listed twice, or ``train`` or ``val`` is empty.
    """
    splits_file = Path(splits_file)
    if str(fold) == "all":
        return _fold_all(splits_file, all_cases)
    splits = load_splits(splits_file)
    index = _fold_index(fold, len(splits), splits_file)
    where = f"Fold {index} of {splits_file}"
    lists = {name: list(splits[index].get(name, [])) for name in LISTS}
    result = Fold(**lists, ignored=tuple(sorted(set(splits[index]) - set(LISTS))))
    _check_names(result, all_cases, where)
    _check_overlaps(result, where)
    _check_not_empty(result, where)
    return result


def has_unlabeled_lists(splits_file: Path) -> bool:
    """Return whether any fold hides labels; a file that does not exist hides none.

    Raises:
        UserError: If the file is malformed.
    """
    return os.path.lexists(splits_file) and any(split.get("unlabeled") for split in load_splits(Path(splits_file)))


def load_splits(splits_file: Path) -> list[Split]:
    """Return all folds of a file.

    Raises:
        UserError: If the file is missing, is not json, or does not hold a list of folds, a list has another name
            than it should, or a name cannot be a case's.
    """
    if not os.path.lexists(splits_file):
        raise UserError(
            f"There is no {splits_file}. It says which cases are labeled, and is made by `nnunet-semisam convert` or, "
            "for a dataset of your own, by `nnunet-semisam preprocess -d ID -c CONFIGURATION`."
        )
    splits = read_json(splits_file, "Delete it and make it again.")
    _check_structure(splits, str(splits_file))
    return splits


def make_splits(
    cases: Sequence[str], group_of: Callable[[str], str] = default_group, k: int = 5, seed: int = 12345
) -> list[Split]:
    """Cut cases into folds of a cross-validation so that a group is never on both sides.

    Where every case is its own group and there are at least ``k``, these are the folds that nnU-Net makes itself.

    Args:
        cases: Identifiers of the labeled cases.
        group_of: Returns the group of a case, for example its patient.
        k: Number of folds; as many as there are groups if these are fewer.
        seed: Seed of the shuffling; 12345 is nnU-Net's.

    Returns:
        ``min(k, number of groups)`` folds. A single group is validated on itself: see :func:`validates_on_itself`.

    Raises:
        UserError: If there is no case, a case is given twice, or ``k`` is below 2.
    """
    if not cases:
        raise UserError("There is no labeled case to make a split of. Put images in imagesTr and labels in labelsTr.")
    repeated = _repeated(cases)
    if repeated:
        raise UserError(f"Cases given twice: {name_some(repeated, 10)}. Every case identifier must be unique.")
    if k < 2:
        raise UserError(f"A cross-validation needs at least 2 folds, got {k}.")
    groups = sorted({group_of(case) for case in cases})
    if len(groups) == 1:
        return [{"train": sorted(cases), "val": sorted(cases)}]
    from nnunetv2.utilities.crossval_split import generate_crossval_split

    folds = generate_crossval_split(groups, seed=seed, n_splits=min(k, len(groups)))
    val_groups = [set(fold["val"]) for fold in folds]
    return [
        {
            "train": sorted(case for case in cases if group_of(case) not in groups),
            "val": sorted(case for case in cases if group_of(case) in groups),
        }
        for groups in val_groups
    ]


def validates_on_itself(split: Mapping[str, Sequence[str]]) -> bool:
    """Return whether a fold's validation cases are its training cases (see :func:`make_splits`): worth a warning."""
    return sorted(split["train"]) == sorted(split["val"])


def same_splits(first: Sequence[Split], second: Sequence[Split]) -> bool:
    """Return whether two lists of folds say the same, whatever the order of their cases."""

    def comparable(splits: Sequence[Split]) -> list[list[list[str]]]:
        return [[sorted(split.get(name, [])) for name in LISTS] for split in splits]

    return comparable(first) == comparable(second)


def write_splits(path: Path, splits: Sequence[Split], overwrite: bool = False) -> None:
    """Write folds to a file at once: a reader sees the old file or the new one, never a part.

    A file that already says the same is left as it is.

    Args:
        path: The ``splits_final.json`` to write; its folder must exist.
        splits: The folds.
        overwrite: Whether a file with other folds may be replaced.

    Raises:
        UserError: If the folds are malformed, or another file is there and ``overwrite`` is off.
    """
    path = Path(path)
    _check_structure(list(splits), f"What is to be written to {path}")
    if os.path.lexists(path) and not overwrite:
        if same_splits(load_splits(path), splits):
            return
        raise UserError(
            f"{path} exists and holds other folds. Models trained on it would no longer fit: move it away, or use "
            "another dataset id, and run this again."
        )
    write_json(path, list(splits))


def _fold_all(splits_file: Path, all_cases: Sequence[str]) -> Fold:
    if has_unlabeled_lists(splits_file):
        raise UserError(
            f"Fold 'all' would train on the hidden labels of the \"unlabeled\" lists in {splits_file}. Choose one of "
            "its folds by number."
        )
    if not all_cases:
        raise UserError("Fold 'all' has no case: there are no preprocessed labeled cases. Preprocess them first.")
    return Fold(train=sorted(all_cases), val=sorted(all_cases), unlabeled=[])


def _fold_index(fold: int | str, count: int, splits_file: Path) -> int:
    try:
        index = int(fold)
    except ValueError:
        index = -1
    if not 0 <= index < count:
        raise UserError(
            f"There is no fold {shown(fold)} in {splits_file}: it has {count}, numbered 0 to {count - 1}. (nnU-Net "
            "would cut ALL cases 80:20 instead, hidden labels included.) Choose one of these, or add the fold to the "
            "file."
        )
    return index


def _check_structure(splits: Any, where: str) -> None:
    shape = 'a list of folds like {"train": [case, ...], "val": [case, ...]}, optionally with "unlabeled": [case, ...]'
    if not isinstance(splits, list) or not splits:
        raise UserError(f"{where} must be {shape}, got {type(splits).__name__} of length {_length(splits)}.")
    for index, split in enumerate(splits):
        if not isinstance(split, dict) or not {"train", "val"} <= set(split):
            raise UserError(f"{where} must be {shape}; fold {index} lacks train or val.")
        _check_spelling(split, f"{where}, fold {index}")
        for name in LISTS:
            cases = split.get(name, [])
            if not isinstance(cases, list) or not all(isinstance(case, str) for case in cases):
                raise UserError(f"{where} must be {shape}; {name} of fold {index} is not a list of case identifiers.")
            for case in cases:
                check_case_name(case, f"{where}, {name} of fold {index}", "Correct it.")


def _check_spelling(split: Mapping[str, Any], where: str) -> None:
    """Refuse a list that is called almost as it should be: nobody would read it, labels that it hides would be seen."""
    for name, cases in split.items():
        if name not in LISTS and MISSPELT.fullmatch(name) and isinstance(cases, list):
            raise UserError(
                f"{where}: nothing reads the entry {shown(name)}. The lists are called train, val and unlabeled: "
                "rename it, or remove it."
            )


def _check_names(fold: Fold, all_cases: Sequence[str], where: str) -> None:
    for name in LISTS:
        cases = getattr(fold, name)
        unknown = sorted(set(cases) - set(all_cases))
        if unknown:
            raise UserError(
                f"{where} lists {name} cases that are not among the {len(all_cases)} preprocessed labeled cases: "
                f"{name_some(unknown, 10)}. Correct the names (no file ending, no _0000), or preprocess these cases."
            )
        repeated = _repeated(cases)
        if repeated:
            raise UserError(f"{where} lists {name} cases more than once: {name_some(repeated, 10)}. Name each once.")


def _check_overlaps(fold: Fold, where: str) -> None:
    for name in ("train", "val"):
        shared = sorted(set(fold.unlabeled) & set(getattr(fold, name)))
        if shared:
            raise UserError(
                f"{where} lists cases both as unlabeled and as {name}: {name_some(shared, 10)}. Remove them from one "
                "list."
            )


def _check_not_empty(fold: Fold, where: str) -> None:
    if not fold.train:
        raise UserError(f"{where} has no training case. List at least one labeled case under train.")
    if not fold.val:
        raise UserError(
            f"{where} has no validation case, and nnU-Net needs at least one. List a labeled case under val: one kept "
            "apart, or, if there is none, a training case (its Dice then says nothing about new cases)."
        )


def _repeated(cases: Sequence[str]) -> list[str]:
    return sorted(case for case, count in Counter(cases).items() if count > 1)


def _length(thing: Any) -> int | str:
    return len(thing) if hasattr(thing, "__len__") else "none"
