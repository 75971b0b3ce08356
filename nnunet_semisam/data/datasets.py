"""Find a dataset by id or name, with its plans, in nnU-Net's three folders."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from nnunet_semisam.errors import UserError, name_some, shown
from nnunet_semisam.io.json_files import read_object
from nnunet_semisam.io.names import case_problem, check_text_name

CASCADE = "3d_cascade_fullres"
PLANS = "nnUNetPlans"  # nnU-Net's own, which its commands take unless told
VARIABLES = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
NAME = re.compile(r"Dataset[0-9]{3}_[^/\\\0]+")


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
                f"The plans {self.plans.get('plans_name', '')} have no configuration {shown(configuration)}. "
                f"They have: {name_some(list(self.plans['configurations']))}."
            )


def environment_folder(variable: str) -> Path:
    """Return the folder that one of nnU-Net's variables names.

    Raises:
        UserError: If the variable is not set.
    """
    value = os.environ.get(variable)
    if not value:
        others = [name for name in VARIABLES if name != variable and not os.environ.get(name)]
        also = f", and the same for {' and '.join(others)}" if others else ""
        raise UserError(
            f"The environment variable {variable} is not set. Say: export {variable}=/path/to/a/folder{also}"
        )
    return Path(value)


def find_dataset_name(folder: Path, dataset: str, what: str = "dataset") -> str:
    """Return the folder name of a dataset given as id (``27``) or name (``Dataset027_ACDC``).

    Args:
        folder: Where to look.
        dataset: Its id or name.
        what: What of a dataset is looked for there, for the error.

    Raises:
        UserError: If there is none, or more than one with that id.
    """
    if NAME.fullmatch(dataset):
        names = [dataset] if (folder / dataset).is_dir() else []
    elif re.fullmatch("[0-9]{1,9}", dataset):
        folders = (path for path in folder.glob(f"Dataset{int(dataset):03d}_*") if path.is_dir())
        names = sorted(path.name for path in folders if NAME.fullmatch(path.name))
    else:
        raise UserError(f"A dataset is named by its id (27) or its folder (Dataset027_ACDC), got {shown(dataset)}.")
    if len(names) > 1:
        raise UserError(
            f"Two or more datasets in {folder} have the id {dataset}: {name_some(names)}. nnU-Net stops at that, too: "
            "move one of them elsewhere, or give it another number."
        )
    if not names:
        raise UserError(f"There is no {what} {dataset} in {folder}. {_datasets_in(folder)}")
    return names[0]


def _datasets_in(folder: Path) -> str:
    if not folder.is_dir():
        return "There is no such folder."
    there = sorted(path.name for path in folder.glob("Dataset*") if NAME.fullmatch(path.name) and path.is_dir())
    return f"There are: {name_some(there)}." if there else "It holds no folder that is named DatasetXXX_Name."


def open_dataset(
    dataset: str, plans_name: str, raw: Path | None = None, preprocessed: Path | None = None
) -> PlannedDataset:
    """Read the plans and dataset.json of a planned dataset.

    Args:
        dataset: Its id or name.
        plans_name: Plans identifier.
        raw: ``nnUNet_raw``; ``None`` takes the variable.
        preprocessed: ``nnUNet_preprocessed``; likewise.

    Raises:
        UserError: If a variable is not set, or the dataset was not planned; the message says what to run.
    """
    if case_problem(plans_name) is not None:
        raise UserError(f"-p {shown(plans_name)} cannot name plans: {case_problem(plans_name)}. Give a plain name.")
    raw = raw or environment_folder("nnUNet_raw")
    preprocessed = preprocessed or environment_folder("nnUNet_preprocessed")
    name = find_dataset_name(raw, dataset)
    plans_file, dataset_file = preprocessed / name / f"{plans_name}.json", preprocessed / name / "dataset.json"
    for file in (plans_file, dataset_file):
        if not os.path.lexists(file):
            others = sorted(path.stem for path in plans_file.parent.glob("*Plans*.json"))
            there = f"Plans that are there: {name_some(others)}. Name them with -p, or plan" if others else "Plan"
            command = f"nnUNetv2_plan_and_preprocess -d {int(name[7:10])}"
            raise UserError(f"There is no {file}. {there} the labeled cases first: {command}")
    plans = read_object(plans_file, "Plan the dataset again.")
    configurations = plans.get("configurations")
    if not isinstance(configurations, dict) or not configurations:
        raise UserError(
            f"{plans_file} must hold nnU-Net's plans, but it has no configurations. Plan the dataset again."
        )
    for configuration, content in configurations.items():
        check_text_name(configuration, "configuration", str(plans_file), "Plan the dataset again.")
        if not isinstance(content, dict):
            raise UserError(
                f"{plans_file}: the configuration {configuration} must hold an object, got {shown(content)}. Plan the "
                "dataset again."
            )
    dataset_json = read_object(dataset_file, "Plan the dataset again.")
    return PlannedDataset(raw / name, preprocessed / name, plans, dataset_json)
