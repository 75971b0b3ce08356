"""Which settings the runs of a benchmark share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_semisam.checks import trainers
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.yaml_files import read_mapping
from nnunet_semisam.settings import Settings

LENGTH = ("num_epochs", "num_iterations_per_epoch", "num_val_iterations_per_epoch", "initial_lr")
NOT_SHARED = {"seed": "--seeds", "method": "--trainers", "use_sam": "--trainers"}


def read_settings(path: Path | None) -> dict[str, Any]:
    """Return the settings of every run: training length, ``save_every``, and what the file adds.

    Every epoch is saved, unless the file says otherwise: a run that is killed then loses one epoch at most.

    Returns:
        Flat settings by name, and blocks by name with what the file sets in them.

    Raises:
        UserError: If the file cannot be read, or holds a setting that is unknown, not allowed, or given by an option.
    """
    import nnunet_semisam.training.trainer  # noqa: F401  registers every block of settings

    given: dict[str, Any] = {}
    if path is not None:
        given = read_mapping(path, "Write lines 'setting: value'.", f"--settings {path}")
    for name in NOT_SHARED.keys() & given.keys():
        raise UserError(f"--settings {path} sets {name}, which is given with {NOT_SHARED[name]}. Remove it there.")
    run = Settings().replace(given, f"--settings {path}").run
    length = {name: getattr(run, name) for name in LENGTH}
    return {**length, "save_every": 1, **given}


def settings_of_trainer(name: str, shared: Mapping[str, Any]) -> Settings:
    """Return the settings that a trainer has in a benchmark.

    Args:
        name: Class name; :func:`~nnunet_semisam.checks.trainers.check_trainers` has accepted it.
        shared: The settings of every run.
    """
    return trainers.settings_of_trainer(name, shared, "the settings of the benchmark")
