import dataclasses
import inspect
import math

import pytest

from nnunet_semisam.errors import UserError
from nnunet_semisam.settings.config import SemiSAMConfig


def test_every_setting_is_documented():
    documented = inspect.getdoc(SemiSAMConfig)
    for field in dataclasses.fields(SemiSAMConfig):
        assert f"\n    {field.name}: " in documented, field.name


def test_values_survive_a_dictionary():
    config = SemiSAMConfig(num_epochs=20, seed=3, sam_checkpoint="x.pth")
    assert SemiSAMConfig(**config.to_dict()) == config


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("consistency_start", 1.5, r"in \[0, 1\]"),
        ("maturity_dice", -0.1, r"in \[0, 1\]"),
        ("cutmix_probability", math.nan, r"in \[0, 1\]"),
        ("consistency_weight", math.inf, "finite"),
        ("sam_decay", math.inf, "finite"),
        ("sam_channel", -1, ">= 0"),
        ("sam_preview_cases", -1, ">= 0"),
        ("num_epochs", 0, "at least 1"),
        ("unlabeled_batch_size", 0, "at least 1"),
        ("initial_lr", 0.0, "greater than 0"),
        ("initial_lr", math.inf, "finite"),
        ("ema_decay", 1.0, r"in \[0, 1\)"),
        ("area_prior_factor", 0.5, ">= 1"),
        ("area_prior_factor", math.nan, ">= 1"),
        ("sam_axis", 3, "0, 1 or 2"),
        ("deploy", "both", "teacher or student"),
    ],
)
def test_value_out_of_range_is_refused(name, value, allowed):
    with pytest.raises(UserError, match=rf"{name} must be .*{allowed}.*got"):
        SemiSAMConfig(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_epochs", 1.0), ("num_epochs", True), ("num_epochs", None), ("seed", "1"), ("use_sam", 1), ("method", 3)],
)
def test_value_of_another_type_is_refused(name, value):
    with pytest.raises(UserError, match=rf"{name} must be of type"):
        SemiSAMConfig(**{name: value})


def test_number_that_yaml_takes_for_text_gets_a_hint():
    with pytest.raises(UserError, match=r"initial_lr must be of type float, got '1e-3' \(str\).*1\.0e-3"):
        SemiSAMConfig(initial_lr="1e-3")


def test_whole_numbers_pass_for_floats_and_none_where_it_has_a_meaning():
    config = SemiSAMConfig(initial_lr=1, sam_axis=None, seed=None)
    assert config.initial_lr == 1


def test_replacing_keeps_all_other_settings():
    config = SemiSAMConfig(num_epochs=7)
    changed = config.replace({"ema_decay": 0.5}, "a test")
    assert (changed.num_epochs, changed.ema_decay, config.ema_decay) == (7, 0.5, 0.99)
    assert config.differences(changed) == {"ema_decay": (0.99, 0.5)}
    assert config.differences(config.replace({}, "a test")) == {}


def test_unknown_setting_is_refused_with_its_source_and_the_closest_name():
    with pytest.raises(UserError, match=r"'num_epoch' in my\.yaml\. Did you mean 'num_epochs'\? Known"):
        SemiSAMConfig().replace({"num_epoch": 3}, "my.yaml")
    with pytest.raises(UserError, match=r"Unknown setting 17 in my\.yaml\. Known"):
        SemiSAMConfig().replace({17: 3}, "my.yaml")


def test_settings_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SemiSAMConfig().seed = 1
