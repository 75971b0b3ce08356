"""The network of somebody else's plans is one of nnU-Net's: plans name functions, and nnU-Net calls them."""

from __future__ import annotations

import inspect
import pydoc
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_semisam.errors import UserError, printable, shown

if TYPE_CHECKING:
    from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager

NETWORKS = "dynamic_network_architectures"
LAYERS = "torch.nn"
MOST_OF_A_KIND = 100  # stages, and layers or blocks of a stage: each takes memory, and time to build


def check_architecture(configuration: ConfigurationManager, file: Path, name: str) -> None:
    """Refuse an architecture that is not of nnU-Net's library, or whose parts are no layers of it or of torch.

    nnU-Net calls what ``network_class_name`` names with the arguments in the plans: with ``torch.hub.load`` that is
    any code of the folder, or of a repository. So plans that came with a model are looked at before a network is built.

    Args:
        configuration: nnU-Net's reader of a configuration.
        file: The plans file, for messages.
        name: Name of the configuration, for messages.

    Raises:
        UserError: If it names something else, or is malformed.
    """
    given: dict[str, Any] = configuration.configuration.get("architecture") or {}
    kwargs, imported = given.get("arch_kwargs"), given.get("_kw_requires_import")
    if not isinstance(kwargs, dict) or not isinstance(imported, list | tuple):
        raise UserError(f"{file}: the architecture of configuration {name} is malformed. Plan the dataset again.")
    if not _is_module(given.get("network_class_name"), [NETWORKS]):
        _refuse(given.get("network_class_name"), [NETWORKS], file, name)
    for key, value in kwargs.items():
        numbers = value if isinstance(value, list | tuple) else [value]
        if str(key).startswith("n_") and any(isinstance(each, int) and each > MOST_OF_A_KIND for each in numbers):
            raise UserError(
                f"{file}: the architecture of configuration {name} has {printable(str(key), 100)} {shown(value)}. At "
                f"most {MOST_OF_A_KIND} stages, or layers of one, are built. Plan the dataset again."
            )
    for key in imported:
        value = kwargs.get(key) if isinstance(key, str) else None
        if value is not None and not _is_module(value, [NETWORKS, LAYERS]):
            _refuse(value, [NETWORKS, LAYERS], file, name)


def _is_module(name: Any, packages: list[str]) -> bool:
    """Return whether a dotted name leads to a class of modules that a package defines; no other package is loaded."""
    from torch import nn

    if not isinstance(name, str) or not any(name.startswith(f"{package}.") for package in packages):
        return False
    try:
        found = pydoc.locate(name)
    except pydoc.ErrorDuringImport:
        return False
    if found is None:
        return name.startswith(f"{NETWORKS}.")  # moved: nnU-Net seeks its last part there
    # a name goes on through what a module has imported: torch.nn.functional.torch.hub.load
    return (
        inspect.isclass(found)
        and issubclass(found, nn.Module)
        and any(f"{found.__module__}.".startswith(f"{package}.") for package in packages)
    )


def _refuse(value: Any, packages: list[str], file: Path, name: str) -> None:
    raise UserError(
        f"{file}: the architecture of configuration {name} names {shown(value)}. Plans call what they name, so only "
        f"classes of {' and '.join(packages)} are taken from them here. If you trust the plans and the network is your "
        "own, use nnU-Net's own commands."
    )
