"""Read the yaml file that the environment variable ``nnUNet_semisam_config`` names, and write resolved settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from nnunet_semisam.errors import UserError
from nnunet_semisam.settings.blocks import Settings

VARIABLE = "nnUNet_semisam_config"


class _UniqueKeysLoader(yaml.SafeLoader):
    """Yaml's safe loader, which takes the last of several equal names without a word; this one refuses them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [name.value for name, _ in node.value if isinstance(name, yaml.ScalarNode)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


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
    if not path.is_file():
        raise UserError(f"There is no file {source}. Write one, or unset the variable.")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeysLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{source} is no valid yaml: {error}. Write lines 'setting: value'.") from error
    if content is None:
        return settings
    if not isinstance(content, dict):
        raise UserError(f"{source} must hold lines 'setting: value', got a {type(content).__name__}.")
    return settings.replace(content, source)


def is_given() -> bool:
    """Return whether the user named a settings file."""
    return bool(os.environ.get(VARIABLE))


def dump(settings: Settings) -> str:
    """Return the resolved settings as yaml, in the order of the configuration."""
    return yaml.safe_dump(settings.to_dict(), sort_keys=False)
