"""With which plans the images of ``imagesUl`` were preprocessed."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager

from nnunet_semisam.data.unlabeled_dataset import cases_in, unlabeled_folder
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.hashes import sha256_of_json
from nnunet_semisam.io.json_files import object_or_none

RECIPE_FILE = "preprocessing.json"
RECIPE_KEYS = ("spacing", "normalization_schemes", "use_mask_for_norm", "preprocessor_name")
RECIPE_PREFIXES = ("resampling_fn_data",)
LOGGER = logging.getLogger(__name__)


def recipe(plans: dict, configuration: ConfigurationManager) -> str:
    """Return a digest of all that shapes preprocessed images: data made with another recipe must be made again."""
    parts = {key: configuration.configuration.get(key) for key in RECIPE_KEYS}
    parts |= {k: v for k, v in configuration.configuration.items() if k.startswith(RECIPE_PREFIXES)}
    parts["transpose_forward"] = plans["transpose_forward"]
    parts["intensities"] = plans["foreground_intensity_properties_per_channel"]
    parts["reader"] = plans["image_reader_writer"]
    return sha256_of_json(parts)


def refuse_stale(preprocessed: Path, plans: dict, configuration: ConfigurationManager) -> None:
    """Refuse to train on images of ``imagesUl`` that were preprocessed before the plans changed.

    Raises:
        UserError: If the folder's recipe is not the one of these plans.
    """
    folder = unlabeled_folder(preprocessed, configuration.data_identifier)
    if not cases_in(folder):
        return
    if not os.path.lexists(folder / RECIPE_FILE):
        LOGGER.warning(
            "With which plans the unlabeled cases in %s were preprocessed is not known: %s is gone. Run "
            "'nnunet-semisam preprocess' again to be sure that they are these.",
            folder,
            RECIPE_FILE,
        )
        return
    if recorded_recipe(folder) != recipe(plans, configuration):
        raise UserError(
            f"The unlabeled cases in {folder} were preprocessed with other plans (spacing, normalization or resampling "
            "changed since). Run 'nnunet-semisam preprocess' again for this dataset and configuration."
        )


def recorded_recipe(folder: Path) -> str | None:
    """Return the recipe that a folder was made with; ``None`` if its record is missing or damaged."""
    return (object_or_none(folder / RECIPE_FILE) or {}).get("recipe")
