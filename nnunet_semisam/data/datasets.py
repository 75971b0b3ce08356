"""Find a dataset by id or name, with its plans, in nnU-Net's three folders."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from nnunet_semisam.errors import UserError
from nnunet_semisam.io.json_files import read_object

CASCADE = "3d_cascade_fullres"


@dataclass(frozen=True)
class PlannedDataset:
    """A dataset that nnU-Net has planned.

    Attributes:
        raw: ``$nnUNet_raw/DATASET``.
        preprocessed: ``$nnUNet_preprocessed/DATASET``.
        plans: Content of the plans file.
        dataset_json: Content of dataset.json.
    """

    raw: Path
    preprocessed: Path
    plans: dict
    dataset_json: dict

    def preprocessable_configurations(self) -> list[str]:
        """Return the plans' configurations that have data of their own: all but the cascade."""
        return [name for name in self.plans["configurations"] if name != CASCADE]

    def check_configuration(self, configuration: str) -> None:
        """Raise UserError if the plans have no such configuration."""
        if configuration not in self.plans["configurations"]:
            raise UserError(
                f"The plans {self.plans['plans_name']} have no configuration {configuration!r}. "
                f"They have: {', '.join(self.plans['configurations'])}."
            )


def environment_folder(variable: str) -> Path:
    """Return the folder that one of nnU-Net's variables names.

    Raises:
        UserError: If the variable is not set.
    """
    value = os.environ.get(variable)
    if not value:
        raise UserError(f"The environment variable {variable} is not set. Say: export {variable}=/path/to/a/folder")
    return Path(value)


def find_dataset_name(folder: Path, dataset: str) -> str:
    """Return the folder name of a dataset given as id (``27``) or name (``Dataset027_ACDC``).

    Raises:
        UserError: If there is none, or more than one with that id.
    """
    if dataset.startswith("Dataset"):
        names = [dataset] if (folder / dataset).is_dir() else []
    elif dataset.isdigit():
        names = sorted(path.name for path in folder.glob(f"Dataset{int(dataset):03d}_*"))
    else:
        raise UserError(f"A dataset is named by its id (27) or its folder (Dataset027_ACDC), got {dataset!r}.")
    if len(names) != 1:
        found = ", ".join(names) if names else "none"
        raise UserError(f"Wanted exactly one folder for dataset {dataset} in {folder}, found {found}.")
    return names[0]


def open_dataset(dataset: str, plans_name: str) -> PlannedDataset:
    """Read the plans and dataset.json of a planned dataset.

    Raises:
        UserError: If a variable is not set, or the dataset was not planned; the message says what to run.
    """
    raw, preprocessed = environment_folder("nnUNet_raw"), environment_folder("nnUNet_preprocessed")
    name = find_dataset_name(raw, dataset)
    plans_file, dataset_file = preprocessed / name / f"{plans_name}.json", preprocessed / name / "dataset.json"
    for file in (plans_file, dataset_file):
        if not file.is_file():
            raise UserError(
                f"There is no {file}. Plan the labeled cases first: "
                f"nnUNetv2_plan_and_preprocess -d {int(name[7:10])} -c 2d 3d_fullres"
            )
    plans = read_object(plans_file, "Plan the dataset again.")
    if not isinstance(plans.get("configurations"), dict) or not plans["configurations"]:
        raise UserError(
            f"{plans_file} must hold nnU-Net's plans, but it has no configurations. Plan the dataset again."
        )
    dataset_json = read_object(dataset_file, "Plan the dataset again.")
    return PlannedDataset(raw / name, preprocessed / name, plans, dataset_json)
