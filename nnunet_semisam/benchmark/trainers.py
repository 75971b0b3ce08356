"""Which trainers and settings a benchmark can compare."""

from __future__ import annotations

import os
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from nnunet_semisam.errors import UserError
from nnunet_semisam.settings.config import SemiSAMConfig

LENGTH = ("num_epochs", "num_iterations_per_epoch", "num_val_iterations_per_epoch", "initial_lr")
NOT_SHARED = {"seed": "--seeds", "method": "--trainers", "use_sam": "--trainers"}


def read_settings(path: Path | None) -> dict[str, Any]:
    """Return the settings of every run: training length, ``save_every``, and what the file adds.

    Every epoch is saved, unless the file says otherwise: a run that is killed then loses one epoch at most.

    Raises:
        UserError: If the file cannot be read, or holds a setting that is unknown, not allowed, or told by an option.
    """
    given: Any = {}
    if path is not None:
        try:
            given = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UserError(f"--settings {path} cannot be read ({error}). Write lines 'setting: value'.") from error
        if not isinstance(given, dict):
            raise UserError(f"--settings {path} must hold lines 'setting: value', got a {type(given).__name__}.")
    for name in NOT_SHARED.keys() & given.keys():
        raise UserError(f"--settings {path} sets {name}, which is said with {NOT_SHARED[name]}. Remove it there.")
    config = SemiSAMConfig().replace(given, f"--settings {path}")
    return {**{name: getattr(config, name) for name in LENGTH}, "save_every": 1, **given}


def check_trainers(names: Sequence[str]) -> None:
    """Check that every trainer exists and takes settings.

    Raises:
        UserError: If nnU-Net does not find one, or it is not of this package's kind: its length could not be set.
    """
    from nnunet_semisam.trainers_folder import trainers_folder

    folder = trainers_folder()
    known = {path.stem for path in folder.glob("nnUNetTrainer*.py")}
    if set(names) <= known:
        return
    classes = {name: _find(name, folder) for name in names if name not in known}
    for name, found in classes.items():
        if found is None:
            raise UserError(
                f"--trainers {name}: there is no such trainer. This package has {', '.join(sorted(known))}; your own "
                "are looked for in the folders of nnUNet_extTrainer."
            )
        from nnunet_semisam.training.trainer import SemiSupervisedTrainer

        if not issubclass(found, SemiSupervisedTrainer):
            raise UserError(
                f"--trainers {name} takes no settings, so its training would be longer or shorter than the others'. "
                "Plain nnU-Net with settings is nnUNetTrainerSupervised, the baseline."
            )


def trainer_class(name: str) -> type:
    """Return a trainer that :func:`check_trainers` has accepted."""
    from nnunet_semisam.trainers_folder import trainers_folder

    path = trainers_folder() / f"{name}.py"
    if path.is_file():
        return runpy.run_path(str(path))[name]
    return _find(name, path.parent)


def _find(name: str, folder: Path) -> type | None:
    """Return a trainer class as nnU-Net finds it."""
    import contextlib
    import io

    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    os.environ.setdefault("nnUNet_extTrainer", str(folder))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return recursive_find_trainer_class_by_name(name)
    except RuntimeError:
        return None
