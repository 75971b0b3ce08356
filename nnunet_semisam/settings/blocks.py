"""The settings of a run: flat run settings, and a block for each plug-in, named after what it sets.

A plug-in registers its block where it is defined; importing :mod:`nnunet_semisam.training.trainer` registers all.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from nnunet_semisam.errors import UserError, printable, shown
from nnunet_semisam.io.hashes import sha256_of_json
from nnunet_semisam.settings.fields import SettingsBlock
from nnunet_semisam.settings.run import RunSettings

Block = TypeVar("Block", bound=type[SettingsBlock])


@dataclass(frozen=True)
class BlockKind:
    """A registered block.

    Attributes:
        cls: Its settings.
        used: Whether a run uses it: only used blocks are part of checkpoint, provenance and hash.
    """

    cls: type[SettingsBlock]
    used: Callable[[Settings], bool]


BLOCKS: dict[str, BlockKind] = {}


def settings_block(name: str, used: Callable[[Settings], bool]) -> Callable[[Block], Block]:
    """Return a decorator that registers a block of settings under the name that a yaml file calls it.

    Args:
        name: Name of the block.
        used: Whether a run with the given settings uses the block.

    Raises:
        ValueError: If the name is taken by another block or by a flat setting, or the class has fields and is no
            dataclass.
    """

    def add(cls: Block) -> Block:
        forgotten = [name for name, value in vars(cls).items() if isinstance(value, dataclasses.Field)]
        if forgotten:
            raise ValueError(
                f"{cls.__name__} needs @dataclass(frozen=True, kw_only=True): without it {', '.join(forgotten)} would "
                "be no setting."
            )
        if name in BLOCKS or name in RunSettings.names():
            raise ValueError(f"There is already a setting or a block of settings called {name!r}.")
        BLOCKS[name] = BlockKind(cls, used)
        return cls

    return add


@dataclass(frozen=True)
class Settings:
    """All settings of a run.

    Attributes:
        run: The flat settings.
        blocks: The blocks that differ from their defaults, or were named; :meth:`block` returns any.

    Example:
        >>> settings = Settings.of(num_epochs=200, seed=1)
        >>> settings.run.num_epochs
        200
    """

    run: RunSettings = field(default_factory=RunSettings)
    blocks: Mapping[str, SettingsBlock] = field(default_factory=dict)

    @classmethod
    def of(cls, **values: Any) -> Settings:
        """Return the defaults with some changed: flat settings by name, blocks as dictionaries.

        Raises:
            UserError: If a name does not exist or a value is not allowed.
        """
        return cls().replace(values, "the definition of the trainer")

    def block(self, name: str) -> Any:
        """Return a block of settings.

        Raises:
            UserError: If there is no such block; the closest name is offered.
        """
        if name in self.blocks:
            return self.blocks[name]
        if name not in BLOCKS:
            raise UserError(f"There is no block of settings {name!r}.{_closest(name, BLOCKS)}")
        return BLOCKS[name].cls()

    def used_blocks(self) -> list[str]:
        """Return the names of the blocks that this run uses, sorted."""
        return sorted(name for name, kind in BLOCKS.items() if kind.used(self))

    def replace(self, overrides: Mapping[str, Any], source: str) -> Settings:
        """Return a copy with some settings changed.

        Args:
            overrides: Flat settings by name; a block by name with a mapping of its settings.
            source: Where the values come from, for the error message.

        Raises:
            UserError: If a setting does not exist (the closest name and its block are offered) or a value is not
                allowed.
        """
        flat: dict[str, Any] = {}
        blocks = dict(self.blocks)
        problems = []
        for name, value in overrides.items():
            if name in RunSettings.names():
                flat[name] = value
            elif name in BLOCKS:
                try:
                    blocks[name] = self._replaced_block(name, value, source)
                except UserError as error:
                    problems.append(str(error))
            else:
                problems.append(f"Unknown setting {shown(name)} in {source}.{self._suggestion(printable(str(name)))}")
        try:
            run = self.run.replace(flat)
        except UserError as error:
            problems.append(f"In {source}: {error}")
        if problems:
            raise UserError("\n".join(problems))
        try:
            return Settings(run, blocks)
        except UserError as error:
            raise UserError(f"In {source}: {error}") from None

    def _replaced_block(self, name: str, value: Any, source: str) -> SettingsBlock:
        if isinstance(value, BLOCKS[name].cls):
            return value
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            raise UserError(
                f"{name!r} in {source} is a block: write '{name}: {{setting: value}}', got {shown(value)} "
                f"({type(value).__name__})."
            )
        known = BLOCKS[name].cls.names()
        problems = [
            f"Unknown setting {shown(key)} in the block {name!r} of {source}."
            f"{_closest(printable(str(key)), known) or self._suggestion(printable(str(key)))} "
            f"The block has: {', '.join(known)}."
            for key in value
            if key not in known
        ]
        if problems:
            raise UserError("\n".join(problems))
        try:
            return self.block(name).replace(value)
        except UserError as error:
            raise UserError(f"In the block {name!r} of {source}: {error}") from None

    def _suggestion(self, name: str) -> str:
        """Return the closest known setting and the block that it belongs to; blocks that the run uses come first."""
        places = {flat: flat for flat in RunSettings.names()} | {block: f"the block {block!r}" for block in BLOCKS}
        used = self.used_blocks()
        for block in sorted(BLOCKS, key=lambda each: each not in used):
            for setting_name in BLOCKS[block].cls.names():
                place = f"{block}: {{{setting_name}: ...}}"
                places.setdefault(setting_name, place)
                places.setdefault(f"{block}_{setting_name}", place)
        close = difflib.get_close_matches(name, places, n=1)
        if not close:
            return f" Flat settings: {', '.join(RunSettings.names())}; blocks: {', '.join(sorted(BLOCKS))}."
        return f" Did you mean {places[close[0]]!r}?"

    def to_dict(self) -> dict[str, Any]:
        """Return all settings that the run uses as plain values: flat ones, then each used block as a dictionary."""
        return {**self.run.to_dict(), **{name: self.block(name).to_dict() for name in self.used_blocks()}}

    @property
    def sha256(self) -> str:
        """Return a digest of all settings that the run uses."""
        return sha256_of_json(self.to_dict())

    def differences(self, other: Settings) -> dict[str, tuple[Any, Any]]:
        """Return the used settings whose values differ as ``{"block.name": (mine, theirs)}``."""
        mine, theirs = _flat(self.to_dict()), _flat(other.to_dict())
        return {
            name: (mine.get(name), theirs.get(name))
            for name in {**mine, **theirs}
            if mine.get(name) != theirs.get(name)
        }


def _flat(content: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{inner}": each for inner, each in value.items()}
        else:
            found[name] = value
    return found


def _closest(name: str, names: Mapping[str, Any] | list[str]) -> str:
    close = difflib.get_close_matches(name, list(names), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
