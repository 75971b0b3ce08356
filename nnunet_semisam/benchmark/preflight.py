"""What would stop a run is found before the first one: a baseline may train for days before others begin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from nnunet_semisam.benchmark.plan import Study
from nnunet_semisam.benchmark.records import Run
from nnunet_semisam.benchmark.trainers import settings_of_trainer
from nnunet_semisam.data.datasets import PlannedDataset
from nnunet_semisam.errors import UserError

if TYPE_CHECKING:
    from nnunet_semisam.settings import Settings


def check_runs(study: Study, dataset: PlannedDataset, runs: Sequence[Run]) -> list[str]:
    """Check what the trainers check when they start, with their own code, for every run that is not done.

    All cases of the fold are preprocessed, and no hidden label has reached the plans. For trainers that learn from
    unlabeled cases, these are preprocessed with these plans, and the weights of their SAM are there.

    Returns:
        Notes, each once.

    Raises:
        UserError: If a run could not start.
    """
    from nnunet_semisam.methods import METHODS

    trainers = dict.fromkeys(run.trainer for run in runs)
    settings = {trainer: settings_of_trainer(trainer, study.settings) for trainer in trainers}
    notes: list[str] = []
    checked: set[tuple[str, int, bool]] = set()
    for run in runs:
        chosen = settings[run.trainer].run
        uses_unlabeled = METHODS.get(chosen.method).uses_unlabeled
        data = (run.configuration, run.fold, uses_unlabeled)
        try:
            if data not in checked:
                checked.add(data)
                _check_data(dataset, run, uses_unlabeled, notes.append)
            if uses_unlabeled and chosen.use_sam:
                _check_sam(settings[run.trainer])
        except UserError as error:
            raise UserError(f"{run.name} could not start, so no run was started. {error}") from error
    return list(dict.fromkeys(notes))


def _check_data(dataset: PlannedDataset, run: Run, uses_unlabeled: bool, log: Callable[[str], Any]) -> None:
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnunet_semisam.context import DataContext
    from nnunet_semisam.splits.cases_of_fold import cases_of_fold
    from nnunet_semisam.training.build_loader import collect_unlabeled

    plans = PlansManager(dataset.plans)
    configuration = plans.get_configuration(run.configuration)
    if uses_unlabeled and configuration.previous_stage_name is not None:
        raise UserError(
            f"{run.trainer} cannot train {run.configuration}, which builds on predictions of "
            f"{configuration.previous_stage_name}: nnU-Net makes them for labeled cases only. Use 2d or 3d_fullres."
        )
    data = DataContext(dataset.preprocessed, plans, configuration, run.configuration, dataset.dataset_json, log)
    folder = dataset.preprocessed / data.data_identifier
    fold = cases_of_fold(dataset.preprocessed, folder, run.fold, configuration, log)
    if uses_unlabeled:
        collect_unlabeled(data, fold)


def _check_sam(settings: Settings) -> None:
    """Find the weights of every SAM, and fetch published ones: machines of a cluster often have no network."""
    from nnunet_semisam.sam.checkpoints import find_weights
    from nnunet_semisam.sam.families import FAMILIES

    for model in settings.block("sam").models:
        if model in FAMILIES:
            find_weights(model, settings.block(model).checkpoint)
