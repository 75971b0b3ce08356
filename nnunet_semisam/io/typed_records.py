"""Records from json that others may have written: the types of a dataclass's fields say what is allowed.

A field's type is what json can hold (``str``, ``int``, ``float``, ``bool``, ``list``, ``dict``), a tuple, an enum,
another dataclass, or any of these ``| None``; ``Any`` is whatever can be shown and written again, ``object`` whatever
is looked at later. :class:`Between` and :class:`Rule` in an ``Annotated`` narrow it.
Numbers are finite and of a size that can be reckoned with; ``True`` is no number. What else an object holds is left
out.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePosixPath, PureWindowsPath
from typing import Annotated, Any, TypeVar

from nnunet_semisam.errors import UserError, shown
from nnunet_semisam.io.names import case_problem, text_problem

LARGEST = 1e30  # of a number: the products of several are still finite
LARGEST_INTEGER = 2**63
MOST_LEVELS = 20  # of lists and objects in a field of any type
R = TypeVar("R")


class RecordError(UserError):
    """An entry of a file is missing or of another kind; the message names the entry, not the file."""


@dataclass(frozen=True)
class Between:
    """Bounds of a number, both allowed."""

    least: float
    most: float = LARGEST


@dataclass(frozen=True)
class Rule:
    """What a text must be.

    Attributes:
        problem: Returns why a text cannot be it, or ``None``.
    """

    problem: Callable[[str], str | None]


def class_name_problem(name: str) -> str | None:
    """Return why a text is no name of a class, or ``None``."""
    return text_problem(name) or (None if name.isidentifier() else "it is no name of a class")


def inner_path_problem(path: str) -> str | None:
    """Return why a text is no path that stays in the folder it is relative to, or ``None``.

    Example:
        >>> inner_path_problem("runs/a/predictions") is None
        True
        >>> inner_path_problem("../a")
        'it leads out of the folder'
    """
    if not path or not path.isprintable():
        return "it is empty or contains characters that cannot be printed"
    both = (PurePosixPath(path), PureWindowsPath(path))
    if any(one.is_absolute() or one.drive or one.root or ".." in one.parts for one in both):
        return "it leads out of the folder"
    return None


Count = Annotated[int, Between(0, LARGEST_INTEGER)]
Amount = Annotated[float, Between(0)]
Share = Annotated[float, Between(0, 1 + 1e-6)]  # a mean of ones need not be 1
Name = Annotated[str, Rule(text_problem)]
FileName = Annotated[str, Rule(case_problem)]
ClassName = Annotated[str, Rule(class_name_problem)]
InnerPath = Annotated[str, Rule(inner_path_problem)]


def read_record(record: type[R], content: Any, place: str, **given: Any) -> R:
    """Return a dataclass of an object of a json file.

    Args:
        record: The dataclass.
        content: What the file holds there.
        place: Where that is in the file, for errors: ``runs[3]``.
        given: Fields that are known already; they are not looked for.

    Raises:
        RecordError: If it is no object, lacks a field without a default, or a field is not of its type.

    Example:
        >>> @dataclass
        ... class Fold:
        ...     cases: Count
        >>> read_record(Fold, {"cases": 3, "more": 0}, "folds[0]")
        Fold(cases=3)
        >>> read_record(Fold, {"cases": -3}, "folds[0]")
        Traceback (most recent call last):
        nnunet_semisam.io.typed_records.RecordError: folds[0].cases must be between 0 and 9.22337e+18, got -3.
    """
    if not isinstance(content, Mapping):
        raise RecordError(f"{place} must be an object, got {_kind(content)}.")
    values = dict(given)
    hints = _hints(record)
    for field in dataclasses.fields(record):
        if field.name in given:
            continue
        if field.name in content:
            values[field.name] = read_value(hints[field.name], content[field.name], f"{place}.{field.name}".lstrip("."))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise RecordError(f"{place} lacks {field.name!r}." if place else f"{field.name!r} is missing.")
    return record(**values)


def read_entry(hint: Any, content: Mapping[str, Any], name: str) -> Any:
    """Return an entry of an object that must be there; see :func:`read_value`.

    Raises:
        RecordError: If it is missing, or not of that type.
    """
    if name not in content:
        raise RecordError(f"{name!r} is missing.")
    return read_value(hint, content[name], name)


def read_value(hint: Any, value: Any, place: str) -> Any:
    """Return a value of a json file as a type.

    Args:
        hint: See the top of this file.
        value: What the file holds.
        place: Where that is in the file, for errors.

    Raises:
        RecordError: If it is not of that type.
    """
    origin = typing.get_origin(hint)
    if origin is Annotated:
        base, *rules = typing.get_args(hint)
        value = read_value(base, value, place)
        for rule in rules:
            _check_rule(rule, value, place)
        return value
    if origin in (typing.Union, types.UnionType):
        return _read_union(typing.get_args(hint), value, place)
    if hint is object:
        return value
    if hint is Any:
        return _plain(value, place)
    if origin in (list, tuple, dict):
        return _read_collection(origin, typing.get_args(hint), value, place)
    if isinstance(hint, type) and issubclass(hint, Enum):
        allowed = {one.value: one for one in hint}
        if not isinstance(value, str) or value not in allowed:
            raise RecordError(f"{place} must be one of {', '.join(map(repr, allowed))}, got {shown(value)}.")
        return allowed[value]
    if dataclasses.is_dataclass(hint):
        return read_record(hint, value, place)
    return _read_plain_type(hint, value, place)


def _read_union(hints: Sequence[Any], value: Any, place: str) -> Any:
    if value is None and type(None) in hints:
        return None
    choices = [hint for hint in hints if hint is not type(None)]
    error: RecordError | None = None
    for hint in choices:
        try:
            return read_value(hint, value, place)
        except RecordError as one:
            error = one
    raise error or RecordError(f"{place} must be null, got {shown(value)}.")


def _read_collection(origin: type, hints: Sequence[Any], value: Any, place: str) -> Any:
    if origin is dict:
        if not isinstance(value, Mapping):
            raise RecordError(f"{place} must be an object, got {_kind(value)}.")
        key, content = hints
        return {
            _read_key(key, name, place): read_value(content, one, f"{place}[{shown(name)}]")
            for name, one in value.items()
        }
    if not isinstance(value, list | tuple):
        raise RecordError(f"{place} must be a list, got {_kind(value)}.")
    if origin is list or hints[-1] is Ellipsis:
        return origin(read_value(hints[0], one, f"{place}[{i}]") for i, one in enumerate(value))
    if len(value) != len(hints):
        raise RecordError(f"{place} must have {len(hints)} entries, got {len(value)}.")
    return tuple(read_value(hint, one, f"{place}[{i}]") for i, (hint, one) in enumerate(zip(hints, value, strict=True)))


def _read_key(hint: Any, name: Any, place: str) -> Any:
    """Return the key of an object, which json always writes as a text."""
    base = typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint
    if base is int:
        if not isinstance(name, str) or not (name.isascii() and name.isdigit() and len(name) < 10):
            raise RecordError(f"{place} must have whole numbers as names, got {shown(name)}.")
        name = int(name)
    return read_value(hint, name, f"a name in {place}")


def _read_plain_type(hint: Any, value: Any, place: str) -> Any:
    if hint is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        wanted = "a number"
    elif hint is int:
        fits = isinstance(value, int) and not isinstance(value, bool)
        wanted = "a whole number"
    else:
        fits = isinstance(value, hint)
        wanted = {str: "a text", bool: "true or false"}.get(hint, f"a {hint.__name__}")
    if not fits:
        raise RecordError(f"{place} must be {wanted}, got {shown(value)}.")
    if hint is float:
        _check_rule(Between(-LARGEST, LARGEST), value, place)
    elif hint is int:
        _check_rule(Between(-LARGEST_INTEGER, LARGEST_INTEGER), value, place)
    return value


def _check_rule(rule: Any, value: Any, place: str) -> None:
    if isinstance(rule, Between):
        if isinstance(value, float) and not math.isfinite(value):
            raise RecordError(f"{place} must be finite, got {value}.")
        if not rule.least <= value <= rule.most:
            raise RecordError(f"{place} must be between {rule.least:g} and {rule.most:g}, got {shown(value)}.")
    elif isinstance(rule, Rule):
        problem = rule.problem(value)
        if problem is not None:
            raise RecordError(f"{place} cannot be {shown(value)}: {problem}.")


def _plain(value: Any, place: str, level: int = 0) -> Any:
    """Return a value of any type, if it is no deeper than can be written and shown, and its numbers are finite."""
    if level > MOST_LEVELS:
        raise RecordError(f"{place} is nested deeper than {MOST_LEVELS} levels.")
    if isinstance(value, Mapping):
        for one in value.values():
            _plain(one, place, level + 1)
    elif isinstance(value, list | tuple):
        for one in value:
            _plain(one, place, level + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise RecordError(f"{place} must be finite, got {value}.")
    return value


def _kind(value: Any) -> str:
    """Return what json calls the kind of a value."""
    if value is None:
        return "null"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, Mapping):
        return "an object"
    return shown(value)


@functools.cache
def _hints(record: type) -> dict[str, Any]:
    return typing.get_type_hints(record, include_extras=True)
