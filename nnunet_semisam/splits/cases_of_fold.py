"""Which cases a fold trains on, validates on, and uses without labels: all checks in one place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager

from nnunet_semisam.errors import UserError
from nnunet_semisam.splits.default_splits import SPLITS_FILE, ensure_splits
from nnunet_semisam.splits.folds import Fold, read_fold
from nnunet_semisam.splits.replan import was_planned_without

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
        log: Receives what was done.

    Raises:
        UserError: If the fold is not usable (see :func:`~nnunet_semisam.splits.folds.read_fold`), or hides labels that
            the plans were made with.
    """
    if not folder.is_dir():
        raise UserError(f"There is no {folder}. Run nnUNetv2_preprocess for this configuration.")
    if fold != "all" and not (preprocessed_dataset / SPLITS_FILE).is_file():
        for message in ensure_splits(preprocessed_dataset, raw_of(preprocessed_dataset)):
            log(message)
    cases = _preprocessed_cases(folder)
    result = read_fold(preprocessed_dataset / SPLITS_FILE, fold, cases)
    if result.unlabeled:
        _refuse_leaking_plans(configuration, result.unlabeled)
    return result


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
    if was_planned_without(configuration.configuration, hidden):
        return
    schemes = configuration.normalization_schemes
    if LEAKING_NORMALIZATION in schemes or any(configuration.use_mask_for_norm):
        raise UserError(
            "This fold hides labels ('unlabeled' in splits_final.json), but the plans were made with them: "
            f"normalization {', '.join(schemes)} with use_mask_for_norm {configuration.use_mask_for_norm} takes its "
            "numbers from all labels in labelsTr. Move the unlabeled cases to imagesUl and plan again, or plan without "
            "their labels: nnunet-semisam split --replan."
        )
