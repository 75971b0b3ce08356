"""The settings that several trainings share, from a yaml file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_semisam.errors import UserError
from nnunet_semisam.io.yaml_files import read_mapping
from nnunet_semisam.settings import Settings

LENGTH = ("num_epochs", "num_iterations_per_epoch", "num_val_iterations_per_epoch", "initial_lr")


def read_settings(path: Path | None, by_option: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings of every training: its length, ``save_every``, and what the file adds.

    Every epoch is saved, unless the file says otherwise: a training that is killed then loses one epoch at most.

    Args:
        path: The file, or ``None``.
        by_option: Name of a setting that the file must not set -> the option that does.

    Returns:
        Flat settings by name, and blocks by name with what the file sets in them.

    Raises:
        UserError: If the file cannot be read, or holds a setting that is unknown, not allowed, or given by an option.
    """
    import nnunet_semisam.training.trainer  # noqa: F401  registers every block of settings

    given: dict[str, Any] = {}
    if path is not None:
        given = read_mapping(path, "Write lines 'setting: value'.", f"--settings {path}")
    for name in by_option.keys() & given.keys():
        raise UserError(f"--settings {path} sets {name}, which is given with {by_option[name]}. Remove it there.")
    run = Settings().replace(given, f"--settings {path}").run
    length = {name: getattr(run, name) for name in LENGTH}
    return {**length, "save_every": 1, **given}
