"""Read the yaml file that the environment variable ``nnUNet_semisam_config`` names, and write resolved settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from nnunet_semisam.errors import UserError
from nnunet_semisam.io.yaml_files import read_mapping
from nnunet_semisam.settings.blocks import Settings
from nnunet_semisam.settings.fields import SettingsBlock

VARIABLE = "nnUNet_semisam_config"


def from_environment(settings: Settings) -> Settings:
    """Return ``settings`` with those that the user's yaml file overrides.

    Raises:
        UserError: If the file is missing or no yaml mapping, or names an unknown or not allowed setting.
    """
    name = os.environ.get(VARIABLE)
    if not name:
        return settings
    path = Path(name)
    source = f"{path} (from {VARIABLE})"
    if not path.exists():
        raise UserError(f"There is no file {source}. Write one, or unset the variable.")
    content = read_mapping(path, f"Write lines 'setting: value' into it, or unset {VARIABLE}.", source)
    return settings.replace(content, source)


def is_given() -> bool:
    """Return whether the user named a settings file."""
    return bool(os.environ.get(VARIABLE))


def dump_changed(settings: Settings) -> str:
    """Return the settings that differ from the defaults as yaml, in the order of the configuration; ``{}`` if none do.

    Example:
        >>> print(dump_changed(Settings.of(num_epochs=20)), end="")
        num_epochs: 20
    """
    changed = _changed(settings.run)
    for name in settings.used_blocks():
        block = _changed(settings.block(name))
        changed |= {name: block} if block else {}
    return yaml.safe_dump(changed, sort_keys=False)


def _changed(block: SettingsBlock) -> dict[str, Any]:
    defaults = type(block)().to_dict()
    return {name: value for name, value in block.to_dict().items() if value != defaults[name]}


def dump(settings: Settings) -> str:
    """Return the resolved settings as yaml, in the order of the configuration."""
    return yaml.safe_dump(settings.to_dict(), sort_keys=False)
