"""Which cases a fold trains on, validates on, and uses without labels: all checks in one place."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager

from nnunet_semisam.data.unlabeled_dataset import cases_in, unlabeled_folder
from nnunet_semisam.errors import UserError, name_some
from nnunet_semisam.splits.default_splits import SPLITS_FILE, ensure_splits
from nnunet_semisam.splits.folds import Fold, default_group, read_fold
from nnunet_semisam.splits.label_budgets import group_function, recorded_pattern
from nnunet_semisam.splits.leakage import shared_groups, sides_of
from nnunet_semisam.splits.replan import was_planned_without

MOST_SHOWN = 5
LEAKING_NORMALIZATION = "CTNormalization"


def cases_of_fold(
    preprocessed_dataset: Path, folder: Path, fold: int | str, configuration: ConfigurationManager, log: Callable
) -> Fold:
    """Return the checked cases of a fold; write a default split first if there is none.

    Args:
        preprocessed_dataset: ``$nnUNet_preprocessed/DATASET``.
        folder: Preprocessed cases of the configuration.
        fold: Index of the fold, or ``all``.
        configuration: The plans' configuration.
        log: Receives what was done, and what the user should know about the fold.

    Raises:
        UserError: If the fold is not usable (see :func:`~nnunet_semisam.splits.folds.read_fold`), or hides labels that
            the plans were made with.
    """
    if not folder.is_dir():
        raise UserError(f"There is no {folder}. Run nnUNetv2_preprocess for this configuration.")
    if fold != "all" and not os.path.lexists(preprocessed_dataset / SPLITS_FILE):
        for message in ensure_splits(preprocessed_dataset, raw_of(preprocessed_dataset)):
            log(message)
    cases = _preprocessed_cases(folder)
    result = read_fold(preprocessed_dataset / SPLITS_FILE, fold, cases)
    if result.unlabeled:
        _refuse_leaking_plans(configuration, result.unlabeled)
    if fold != "all":
        pool = cases_in(unlabeled_folder(preprocessed_dataset, folder.name))
        for warning in warnings_of_fold(result, pool, preprocessed_dataset):
            log(f"WARNING: fold {fold} of {preprocessed_dataset / SPLITS_FILE}: {warning}")
    return result


def warnings_of_fold(fold: Fold, pool: Sequence[str], preprocessed_dataset: Path) -> list[str]:
    """Return what makes the validation of a fold say little about new cases, and what of the fold nobody reads.

    nnU-Net, too, trains on such folds with a warning: a single patient can only be validated on itself.

    Args:
        fold: The fold.
        pool: Cases of ``imagesUl``, which are trained on without labels.
        preprocessed_dataset: ``$nnUNet_preprocessed/DATASET``; how its cases are grouped is written there or in the
            raw folder.
    """
    warnings = []
    if fold.ignored:
        warnings.append(f"nothing reads the entry {name_some(fold.ignored)}; only train, val and unlabeled are read.")
    both = sorted(set(fold.train) & set(fold.val))
    if both:
        warnings.append(
            f"{len(both)} of {len(fold.val)} validation case(s) are also training cases, so their Dice says nothing "
            f"about new cases: {name_some(both, MOST_SHOWN)}."
        )
    group_of, problem = groups_of_dataset(preprocessed_dataset)
    if problem:
        warnings.append(f"which cases are of one patient is told by their names only: {problem}")
    sides = sides_of(asdict(fold), {"Ul": dict.fromkeys(pool, ()), "Ts": {}})
    shared = shared_groups(sides, group_of)
    if shared:
        warnings.append(
            f"{len(shared)} group(s) (patients) are trained on and validated on, so the validation Dice is too good: "
            f"{'; '.join(shared[:MOST_SHOWN])}. See nnunet-semisam split, which keeps patients together."
        )
    return warnings


def groups_of_dataset(preprocessed_dataset: Path) -> tuple[Callable[[str], str], str]:
    """Return what tells the group (patient) of a case, and why it is not what was recorded, if that is so."""
    from nnunetv2.paths import nnUNet_raw

    raw = Path(str(nnUNet_raw)) / preprocessed_dataset.name if nnUNet_raw.is_set() else None
    try:
        recorded = group_function(recorded_pattern(preprocessed_dataset, raw), "the recorded pattern")
    except UserError as error:
        return default_group, str(error)

    def group_of(case: str) -> str:
        try:
            return recorded(case)
        except UserError:  # images from elsewhere in imagesUl, say: each is a group of its own
            return case

    return group_of, ""


def _preprocessed_cases(folder: Path) -> list[str]:
    try:
        return infer_dataset_class(str(folder)).get_identifiers(str(folder))
    except (AssertionError, KeyError) as error:  # empty, two formats (an old nnU-Net's npz files), or a foreign file
        endings = ", ".join(sorted({file.suffix for file in folder.iterdir()})) or "nothing"
        raise UserError(
            f"{folder} must hold preprocessed cases of one format (b2nd files with their pkl), got {endings}. Run "
            "nnUNetv2_preprocess for this configuration again."
        ) from error


def raw_of(preprocessed_dataset: Path) -> Path:
    """Return the folder that knows the labeled cases of a preprocessed dataset, with ``labelsTr`` in it."""
    from nnunetv2.paths import nnUNet_raw

    if nnUNet_raw.is_set():
        return Path(str(nnUNet_raw)) / preprocessed_dataset.name
    raise UserError(
        f"There is no {preprocessed_dataset / SPLITS_FILE}, and nnUNet_raw is not set, so none can be made. "
        "Run 'nnunet-semisam preprocess' where nnUNet_raw is set."
    )


def _refuse_leaking_plans(configuration: ConfigurationManager, hidden: list[str]) -> None:
    schemes = configuration.normalization_schemes
    if any(configuration.use_mask_for_norm):  # whatever the plans have seen: foreground of each case joins its own mask
        raise UserError(
            "This fold hides labels ('unlabeled' in splits_final.json), but their images were preprocessed with them: "
            f"where use_mask_for_norm is true (it is {configuration.use_mask_for_norm}), nnU-Net normalises what is "
            "not 0 or has a label. Move the unlabeled cases to imagesUl, without labels, and plan again."
        )
    if LEAKING_NORMALIZATION in schemes and not was_planned_without(configuration.configuration, hidden):
        raise UserError(
            "This fold hides labels ('unlabeled' in splits_final.json), but the plans were made with them: "
            f"normalization {', '.join(schemes)} takes its numbers from all labels in labelsTr. Move the unlabeled "
            "cases to imagesUl and plan again, or plan without their labels: nnunet-semisam split --replan."
        )
