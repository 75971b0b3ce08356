"""Records from json: the types of fields are kept, and what is not of them is named."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

import pytest

from nnunet_semisam.io.typed_records import (
    Amount,
    ClassName,
    Count,
    FileName,
    InnerPath,
    Name,
    RecordError,
    read_record,
    read_value,
)


class Color(str, Enum):
    RED = "red"


@dataclass(frozen=True)
class Inner:
    count: Count


@dataclass(frozen=True)
class Outer:
    name: Name
    amounts: list[Amount | None]
    inner: dict[int, Inner]
    color: Color
    pair: tuple[float, float] = (0.0, 1.0)
    anything: Any = None


GOOD = {"name": "a", "amounts": [1, None, 2.5], "inner": {"3": {"count": 4}}, "color": "red", "further": 1}


def test_a_record_is_read_with_its_defaults_and_without_what_it_does_not_know():
    assert read_record(Outer, GOOD, "x") == Outer("a", [1, None, 2.5], {3: Inner(4)}, Color.RED)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 3}, "x.name must be a text, got 3"),
        ({"name": ""}, "x.name cannot be '': it is empty"),
        ({"amounts": [1, float("nan")]}, r"x.amounts\[1\] must be "),
        ({"amounts": [-1]}, r"x.amounts\[0\] must be between 0 and"),
        ({"amounts": [True]}, r"x.amounts\[0\] must be a number, got True"),
        ({"amounts": 3}, "x.amounts must be a list, got 3"),
        ({"amounts": None}, "x.amounts must be a list, got null"),
        ({"inner": []}, "x.inner must be an object, got a list"),
        ({"inner": {"a": {"count": 1}}}, "x.inner must have whole numbers as names, got 'a'"),
        ({"inner": {"1": {"count": 1.5}}}, r"x.inner\['1'\].count must be a whole number, got 1.5"),
        ({"inner": {"1": {}}}, r"x.inner\['1'\] lacks 'count'"),
        ({"inner": {"1": {"count": 10**400}}}, "count must be between"),
        ({"color": "blue"}, "x.color must be one of 'red', got 'blue'"),
        ({"color": ["red"]}, "x.color must be one of"),
        ({"pair": [1]}, "x.pair must have 2 entries, got 1"),
        ({"anything": {"a": [float("inf")]}}, "x.anything must be finite"),
        ({"name": "y" * 10**6}, "x.name cannot be 'yyyy"),
    ],
)
def test_what_is_of_another_kind_is_named(change, message):
    with pytest.raises(RecordError, match=message) as caught:
        read_record(Outer, {**GOOD, **change}, "x")
    assert len(str(caught.value)) < 500


def test_what_is_nested_too_deep_to_be_shown_is_refused():
    value = 1
    for _ in range(30):
        value = [value]
    with pytest.raises(RecordError, match=r"x\.anything is nested deeper than 20 levels"):
        read_record(Outer, {**GOOD, "anything": value}, "x")


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (InnerPath, "../x"),
        (InnerPath, "a/../../x"),
        (InnerPath, "/etc"),
        (InnerPath, "\\\\server\\share"),
        (InnerPath, "C:x"),
        (InnerPath, ""),
        (InnerPath, "a\0b"),
        (FileName, "a/b"),
        (FileName, ".hidden"),
        (ClassName, "a b"),
        (ClassName, "../x"),
    ],
)
def test_names_that_could_leave_their_folder_are_refused(hint, value):
    with pytest.raises(RecordError, match="cannot be"):
        read_value(hint, value, "x")


def test_paths_that_stay_inside_are_allowed():
    assert read_value(InnerPath, "runs/a b/predictions", "x") == "runs/a b/predictions"
