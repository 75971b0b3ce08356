"""The preprocessed data of one fold, for commands that work without a trainer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

from nnunet_semisam.checks.dataset import configurations_with_data
from nnunet_semisam.checks.plans import Plan, read_plan
from nnunet_semisam.context import DataContext
from nnunet_semisam.data.datasets import PlannedDataset, environment_folder, open_dataset
from nnunet_semisam.errors import UserError, shown
from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels.labeled_cases import LabeledCases
from nnunet_semisam.splits.cases_of_fold import cases_of_fold, groups_of_dataset
from nnunet_semisam.splits.folds import Fold

PREFERRED = ("3d_fullres", "2d")


@dataclass(frozen=True)
class FoldData:
    """One fold of one configuration.

    Attributes:
        dataset: The data set.
        plan: The configuration.
        data: The same, as trainings know it.
        name: The fold: a number or ``all``.
        fold: Its cases.
        labeled_dataset: nnU-Net's dataset, opened with the labeled training cases only.
        labeled: What may be learned from them.
    """

    dataset: PlannedDataset
    plan: Plan
    data: DataContext
    name: str
    fold: Fold
    labeled_dataset: Any
    labeled: LabeledCases

    @property
    def labels(self) -> Labels:
        """Return what the numbers in label maps mean."""
        return self.labeled.labels


def open_fold(
    dataset: str, plans: str, configuration: str | None, fold: str, log: Callable[[str], Any] = print
) -> FoldData:
    """Return the data of a fold; validation and hidden cases stay closed.

    Args:
        dataset: Its id or name.
        plans: Plans identifier.
        configuration: Its name; ``None`` takes the only one that is preprocessed, else ``3d_fullres``, else ``2d``.
        fold: A number or ``all``.
        log: Receives what the user should know.

    Raises:
        UserError: If there is no such data, or a file of it is damaged.
    """
    planned = open_dataset(dataset, plans)
    configuration = configuration or _default_configuration(planned, log)
    planned.check_configuration(configuration)
    files = planned.preprocessed / f"{plans}.json", planned.preprocessed / "dataset.json"
    plan = read_plan(planned.plans, configuration, planned.dataset_json, *files)
    data = DataContext(
        preprocessed_dataset=planned.preprocessed,
        plans_manager=plan.manager,
        configuration_manager=plan.configuration,
        configuration_name=configuration,
        dataset_json=planned.dataset_json,
        log=log,
    )
    folder = planned.preprocessed / data.data_identifier
    cases = cases_of_fold(planned.preprocessed, folder, _number(fold), plan.configuration, log)
    labeled_dataset = infer_dataset_class(str(folder))(str(folder), cases.train)
    group_of, _ = groups_of_dataset(planned.preprocessed)
    labeled = LabeledCases(labeled_dataset, plan.labels, group_of)
    return FoldData(planned, plan, data, str(fold), cases, labeled_dataset, labeled)


def _default_configuration(dataset: PlannedDataset, log: Callable[[str], Any]) -> str:
    found = configurations_with_data(dataset)
    chosen = next((name for name in PREFERRED if name in found), found[0])
    if len(found) > 1:
        log(f"Configuration {chosen} (preprocessed: {', '.join(found)}); -c names another.")
    return chosen


def _number(fold: str) -> int | str:
    if fold == "all":
        return fold
    if not fold.isascii() or not fold.isdigit():
        raise UserError(f"-f must be a number or 'all', got {shown(fold)}.")
    return int(fold)


def results_of(data: FoldData) -> Path:
    """Return nnU-Net's folder of results of the data set.

    Raises:
        UserError: If the variable is not set.
    """
    return environment_folder("nnUNet_results") / data.dataset.raw.name
