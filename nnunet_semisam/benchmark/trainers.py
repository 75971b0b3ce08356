"""Which trainers and settings a benchmark can compare."""

from __future__ import annotations

import contextlib
import io
import os
import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from nnunet_semisam.errors import UserError
from nnunet_semisam.settings import Settings
from nnunet_semisam.trainers_folder import trainer_names, trainers_folder

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

    given = _read_yaml(path) if path is not None else {}
    for name in NOT_SHARED.keys() & given.keys():
        raise UserError(f"--settings {path} sets {name}, which is given with {NOT_SHARED[name]}. Remove it there.")
    run = Settings().replace(given, f"--settings {path}").run
    length = {name: getattr(run, name) for name in LENGTH}
    return {**length, "save_every": 1, **given}


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"--settings {path} cannot be read ({error}). Write lines 'setting: value'.") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"--settings {path} must hold lines 'setting: value', got a {type(content).__name__}.")
    return content


def settings_of_trainer(name: str, shared: Mapping[str, Any]) -> Settings:
    """Return the settings that a trainer has in a benchmark.

    Args:
        name: Class name; :func:`check_trainers` has accepted it.
        shared: The settings of every run.
    """
    return trainer_class(name).settings.replace(shared, "the settings of the benchmark")


def check_trainers(names: Sequence[str]) -> None:
    """Check that every trainer exists and takes settings.

    Raises:
        UserError: If nnU-Net does not find one, or it is not of this package's kind: its length could not be set.
    """
    folder = trainers_folder()
    known = trainer_names(folder)
    for name in names:
        if name not in known:
            _check_foreign_trainer(name, folder, known)


def _check_foreign_trainer(name: str, folder: Path, known: Sequence[str]) -> None:
    found = _find(name, folder)
    if found is None:
        raise UserError(
            f"--trainers {name}: there is no such trainer. This package has {', '.join(known)}; your own are looked "
            "for in the folders of nnUNet_extTrainer."
        )
    from nnunet_semisam.training.trainer import SemiSupervisedTrainer

    if not issubclass(found, SemiSupervisedTrainer):
        raise UserError(
            f"--trainers {name} takes no settings, so its training would be longer or shorter than the others'. "
            "Plain nnU-Net with settings is nnUNetTrainerSupervised, the baseline."
        )


def trainer_class(name: str) -> type:
    """Return a trainer that :func:`check_trainers` has accepted."""
    path = trainers_folder() / f"{name}.py"
    if path.is_file():
        return runpy.run_path(str(path))[name]
    return _find(name, path.parent)


def _find(name: str, folder: Path) -> type | None:
    """Return a trainer class as nnU-Net finds it."""
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    os.environ.setdefault("nnUNet_extTrainer", str(folder))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return recursive_find_trainer_class_by_name(name)
    except RuntimeError:
        return None
