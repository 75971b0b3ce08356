"""One block of settings: types, ranges, meanings."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import pytest

from nnunet_semisam.errors import UserError
from nnunet_semisam.settings import SettingsBlock, setting, setting_of


@dataclass(frozen=True, kw_only=True)
class Example(SettingsBlock):
    steps: int = setting(10, "Number of steps.", low=1)
    rate: float = setting(0.5, "A rate.", above=0, below=1, source="a paper")
    share: float = setting(0.5, "A share.", low=0, high=1)
    weight: float = setting(1.0, "Any finite number.")
    largest: float = setting(0.5, "Up to one.", above=0, high=1)
    used: bool = setting(True, "Whether it is used.")
    mode: str = setting("all", "Which.", choices=("all", "any"))
    name: str = setting("x", "A name.")
    seed: int | None = setting(None, "A seed; null: none.")
    scales: tuple[float, ...] = setting((0.5, 1.0), "Scales.", low=0, high=2)
    models: tuple[str, ...] = setting(("nano",), "Names.")


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("steps", 0, "at least 1"),
        ("rate", 0.0, "greater than 0 and less than 1"),
        ("rate", 1, "greater than 0 and less than 1"),
        ("share", -0.1, r"in \[0, 1\]"),
        ("share", 1.5, r"in \[0, 1\]"),
        ("share", math.nan, r"in \[0, 1\]"),
        ("weight", math.inf, "finite"),
        ("weight", math.nan, "finite"),
        ("weight", "nan", "finite"),
        ("largest", 0, "greater than 0 and at most 1"),
        ("mode", "both", "all or any"),
        ("scales", [0.5, 3], r"in \[0, 2\]"),
    ],
)
def test_value_out_of_range_is_refused(name, value, allowed):
    with pytest.raises(UserError, match=rf"{name} must be {allowed}, got"):
        Example(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("steps", 1.5, "a whole number"),
        ("steps", True, "a whole number"),
        ("steps", None, "a whole number"),
        ("steps", "three", "a whole number"),
        ("steps", "inf", "a whole number"),
        ("rate", True, "a number"),
        ("rate", [0.5], "a number"),
        ("used", 1, "true or false"),
        ("used", "true", "true or false"),
        ("name", 3, "a text"),
        ("seed", "x", "a whole number or null"),
        ("scales", 0.5, "a list of a number"),
        ("scales", "0.5", "a list of a number"),
        ("models", ["nano", 3], "a list of a text"),
    ],
)
def test_value_of_another_type_is_refused(name, value, wanted):
    with pytest.raises(UserError, match=rf"{name} must be {wanted}, got .* \({type(value).__name__}\)"):
        Example(**{name: value})


def test_numbers_that_yaml_takes_for_texts_are_numbers():
    example = Example(rate="1e-3", steps="1.0e6", seed="7", scales=["1e-1", 1])
    assert (example.rate, example.steps, example.seed, example.scales) == (0.001, 1_000_000, 7, (0.1, 1.0))
    assert type(example.steps) is int
    assert Example(name="1e-3").name == "1e-3"  # where a text is wanted, it stays one


def test_whole_numbers_pass_for_floats_and_lists_for_tuples():
    example = Example(weight=1, steps=3.0, models=["a", "b"])
    assert (type(example.weight), type(example.steps), example.models) == (float, int, ("a", "b"))


def test_none_passes_where_it_has_a_meaning():
    assert Example(seed=None).seed is None


def test_plain_values_have_lists_and_make_the_same_block_again():
    example = Example(steps=3, models=["a"])
    assert example.to_dict()["scales"] == [0.5, 1.0]
    assert Example(**example.to_dict()) == example


def test_replacing_keeps_all_other_settings_and_checks():
    changed = Example(steps=3).replace({"rate": 0.1})
    assert (changed.steps, changed.rate) == (3, 0.1)
    with pytest.raises(UserError, match="rate must be"):
        changed.replace({"rate": 2})


def test_settings_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Example().steps = 1


def test_what_is_known_of_a_setting_can_be_read_for_tables():
    fields = {field.name: field for field in dataclasses.fields(Example)}
    about = setting_of(fields["rate"])
    assert (about.meaning, about.source, about.allowed()) == ("A rate.", "a paper", "greater than 0 and less than 1")
    assert setting_of(dataclasses.field()).meaning == ""
