"""What would stop a run is found before the first one: a baseline may train for days before others begin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_semisam.benchmark.plan import Study
from nnunet_semisam.benchmark.records import Run
from nnunet_semisam.data.datasets import PlannedDataset
from nnunet_semisam.errors import UserError

if TYPE_CHECKING:
    from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

    from nnunet_semisam.settings.config import SemiSAMConfig
    from nnunet_semisam.splits.folds import Fold


@dataclass(frozen=True)
class FoldToTrain:
    """What a trainer knows of its data; see :class:`~nnunet_semisam.training.build_loader.KnowsItsData`."""

    preprocessed_dataset_folder_base: Path
    plans_manager: PlansManager
    configuration_manager: ConfigurationManager
    configuration_name: str
    dataset_json: dict[str, Any]
    fold: int
    print_to_log_file: Callable[[str], Any]

    def fold_cases(self) -> Fold:
        """Return the checked cases of the fold."""
        from nnunet_semisam.splits.cases_of_fold import cases_of_fold

        base, identifier = self.preprocessed_dataset_folder_base, self.configuration_manager.data_identifier
        return cases_of_fold(base, base / identifier, self.fold, self.configuration_manager, self.print_to_log_file)


def check_runs(study: Study, dataset: PlannedDataset, runs: Sequence[Run]) -> list[str]:
    """Check what the trainers check when they start, with their own code, for every run that is not done.

    All cases of the fold are preprocessed, and no hidden label has reached the plans. For trainers that learn from
    unlabeled cases, these are preprocessed with these plans, and the weights of their SAM are there.

    Returns:
        Notes, each once.

    Raises:
        UserError: If a run could not start.
    """
    notes: list[str] = []
    configs = {trainer: config_of(study, trainer) for trainer in dict.fromkeys(run.trainer for run in runs)}
    checked: set[tuple[str, int, bool]] = set()
    for run in runs:
        learns_from_unlabeled = configs[run.trainer].method != "none"
        key = (run.configuration, run.fold, learns_from_unlabeled)
        if key not in checked:
            checked.add(key)
            _named(run, lambda run=run, pool=learns_from_unlabeled: _check(study, dataset, run, pool, notes.append))
        if learns_from_unlabeled and configs[run.trainer].use_sam:
            _named(run, lambda run=run: _check_sam(configs[run.trainer]))
    return list(dict.fromkeys(notes))


def config_of(study: Study, trainer: str) -> SemiSAMConfig:
    """Return the settings that a trainer will have in this benchmark."""
    from nnunet_semisam.benchmark.trainers import trainer_class

    return trainer_class(trainer).config.replace(study.settings, "the settings of the benchmark")


def _named(run: Run, check: Callable[[], None]) -> None:
    try:
        check()
    except UserError as error:
        raise UserError(f"{run.name} could not start, so no run was started. {error}") from error


def _check(study: Study, dataset: PlannedDataset, run: Run, pool: bool, log: Callable[[str], Any]) -> None:
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnunet_semisam.training.build_loader import collect_unlabeled

    plans = PlansManager(dataset.plans)
    manager = plans.get_configuration(run.configuration)
    fold = FoldToTrain(dataset.preprocessed, plans, manager, run.configuration, dataset.dataset_json, run.fold, log)
    if pool and manager.previous_stage_name is not None:
        raise UserError(
            f"{run.trainer} cannot train {run.configuration}, which builds on predictions of "
            f"{manager.previous_stage_name}: nnU-Net makes them for labeled cases only. Use 2d or 3d_fullres."
        )
    if pool:
        collect_unlabeled(fold)
    else:
        fold.fold_cases()


def _check_sam(config: SemiSAMConfig) -> None:
    """Find the weights of the SAM, and fetch published ones: machines of a cluster often have no network."""
    from nnunet_semisam.sam.checkpoints import find_weights
    from nnunet_semisam.sam.families import FAMILIES

    if config.sam_model in FAMILIES:
        find_weights(config.sam_model, config.sam_checkpoint)
