"""A setting: a typed dataclass field that says what it means, what is allowed and where its default comes from.

Only the standard library is imported here.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from nnunet_semisam.errors import UserError, shown

LARGEST_INTEGER = 2**63 - 1  # what torch and numpy count with
KEY = "setting"
B = TypeVar("B", bound="SettingsBlock")


@dataclass(frozen=True)
class Setting:
    """What is known about one setting besides its type and default.

    Attributes:
        meaning: One or more sentences, with the unit.
        low: Smallest allowed value; ``None``: no bound.
        high: Largest allowed value; ``None``: no bound.
        above: Every value must be greater than this.
        below: Every value must be smaller than this.
        choices: Allowed values; ``None``: any within the bounds.
        source: Where the default comes from: a paper, nnU-Net's version, an own measurement.
    """

    meaning: str
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[Any, ...] | None = None
    source: str | None = None

    def allowed(self) -> str:
        """Return what is allowed, in words; empty if everything of the type is."""
        if self.choices is not None:
            return " or ".join(map(str, self.choices))
        words = []
        if self.low is not None and self.high is not None:
            return f"in [{self.low:g}, {self.high:g}]"
        if self.low is not None:
            words.append(f"at least {self.low:g}")
        if self.above is not None:
            words.append(f"greater than {self.above:g}")
        if self.high is not None:
            words.append(f"at most {self.high:g}")
        if self.below is not None:
            words.append(f"less than {self.below:g}")
        return " and ".join(words)

    def refuses(self, value: Any) -> bool:
        """Return whether one value (of a tuple: one entry) is not allowed."""
        if value is None:
            return False
        if self.choices is not None:
            return value not in self.choices
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        return (
            (abs(value) > LARGEST_INTEGER if isinstance(value, int) else not math.isfinite(value))
            or (self.low is not None and value < self.low)
            or (self.high is not None and value > self.high)
            or (self.above is not None and value <= self.above)
            or (self.below is not None and value >= self.below)
        )


def setting(
    default: Any,
    meaning: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: Iterable[Any] | None = None,
    source: str | None = None,
) -> Any:
    """Return a dataclass field for a :class:`SettingsBlock`; see :class:`Setting`."""
    about = Setting(
        meaning=" ".join(meaning.split()),
        low=low,
        high=high,
        above=above,
        below=below,
        choices=None if choices is None else tuple(choices),
        source=None if source is None else " ".join(source.split()),
    )
    return dataclasses.field(default=default, metadata={KEY: about})


@dataclass(frozen=True, kw_only=True)
class SettingsBlock:
    """A group of settings that belong together; checked when it is made.

    Fields are of type ``int``, ``float``, ``bool``, ``str``, ``tuple[float, ...]``, ``tuple[str, ...]``, or one of
    these ``| None``.

    Example:
        >>> @dataclass(frozen=True, kw_only=True)
        ... class SharpenSettings(SettingsBlock):
        ...     temperature: float = setting(0.5, "Temperature of the softmax.", above=0, high=1)
        >>> SharpenSettings(temperature=2)
        Traceback (most recent call last):
        nnunet_semisam.errors.UserError: The setting temperature must be greater than 0 and at most 1, got 2.0.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = _converted(field.name, getattr(self, field.name), _types(type(self))[field.name])
            object.__setattr__(self, field.name, value)
            about = setting_of(field)
            values = value if isinstance(value, tuple) else (value,)
            if any(about.refuses(each) for each in values):
                raise UserError(
                    f"The setting {field.name} must be {about.allowed() or 'finite'}, got {_shown_setting(value)}."
                )

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of all settings, in their order."""
        return [field.name for field in dataclasses.fields(cls)]

    def to_dict(self) -> dict[str, Any]:
        """Return all settings as plain values, ready for json, yaml and checkpoints (tuples become lists)."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def replace(self: B, overrides: Mapping[str, Any]) -> B:
        """Return a copy with some settings changed; names must exist."""
        return dataclasses.replace(self, **overrides)


def setting_of(field: dataclasses.Field) -> Setting:
    """Return what is known about a field; a plain dataclass field has no bounds."""
    return field.metadata.get(KEY) or Setting("")


@functools.cache
def _types(cls: type[SettingsBlock]) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _converted(name: str, value: Any, wanted: Any) -> Any:
    """Return ``value`` in the wanted type, or raise.

    Whole numbers become floats; lists become tuples; a text that reads as a number becomes one where a number is
    wanted, since yaml 1.1 takes ``1e-3`` for a text.
    """
    options = typing.get_args(wanted) if isinstance(wanted, types.UnionType) else (wanted,)
    if value is None and type(None) in options:
        return None
    for option in options:
        found = _as(value, option)
        if found is not None:
            return found
    wanted_name = " or ".join("null" if option is type(None) else _short(option) for option in options)
    raise UserError(f"The setting {name} must be {wanted_name}, got {_shown_setting(value)} ({type(value).__name__}).")


def _shown_setting(value: Any) -> str:
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        return f"a number beyond {LARGEST_INTEGER:.1g}"  # python refuses to write very long ones
    return shown(value)


def _as(value: Any, option: Any) -> Any | None:
    """Return ``value`` as ``option``, or ``None`` if it is nothing of that kind."""
    if typing.get_origin(option) is tuple:
        if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
            return None
        entries = [_as(each, typing.get_args(option)[0]) for each in value]
        return None if any(each is None for each in entries) else tuple(entries)
    if option in (int, float) and isinstance(value, str):
        value = _number(value)
    if option is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) <= LARGEST_INTEGER else None
    if option is int and isinstance(value, float) and value.is_integer():
        return int(value)
    return value if type(value) is option else None


def _number(text: str) -> int | float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _short(option: Any) -> str:
    if typing.get_origin(option) is tuple:
        return f"a list of {_short(typing.get_args(option)[0])}"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[option]
