"""All settings of a run: flat ones and blocks."""

from __future__ import annotations

import dataclasses
import math

import pytest

import nnunet_semisam.training.trainer  # noqa: F401 - registers all blocks
from nnunet_semisam.errors import UserError
from nnunet_semisam.gate.settings import GateSettings
from nnunet_semisam.methods.parts.mixing import CutMixSettings
from nnunet_semisam.settings import BLOCKS, RunSettings, Settings, SettingsBlock, setting, setting_of, settings_block

GROUPS = [RunSettings, *(kind.cls for kind in BLOCKS.values())]
FIELDS = [
    pytest.param(group, field, id=f"{group.__name__}.{field.name}")
    for group in GROUPS
    for field in dataclasses.fields(group)
]
NUMBERS = [each for each in FIELDS if type(each.values[1].default) in (int, float)]


# -------------------------------------------------------------------------------------- every setting of every block


@pytest.mark.parametrize(("group", "field"), FIELDS)
def test_every_setting_has_a_meaning(group, field):
    meaning = setting_of(field).meaning
    assert len(meaning.split()) >= 2
    assert meaning.endswith((".", ")"))


@pytest.mark.parametrize(("group", "field"), FIELDS)
def test_every_default_is_allowed(group, field):
    about, default = setting_of(field), getattr(group(), field.name)
    for value in default if isinstance(default, tuple) else (default,):
        assert not about.refuses(value)


@pytest.mark.parametrize(("group", "field"), NUMBERS)
def test_every_number_is_bounded_from_below(group, field):
    about = setting_of(field)
    assert about.choices is not None or about.low is not None or about.above is not None


@pytest.mark.parametrize(("group", "field"), NUMBERS)
def test_values_beyond_the_bounds_are_refused(group, field):
    about = setting_of(field)
    step = 1 if isinstance(field.default, int) else 1e-6
    beyond = {
        "low": None if about.low is None else about.low - step,
        "high": None if about.high is None else about.high + step,
        "above": about.above,
        "below": about.below,
    }
    for value in (value for value in beyond.values() if value is not None):
        with pytest.raises(UserError, match=rf"The setting {field.name} must be"):
            group(**{field.name: value})


# ----------------------------------------------------------------------------------------------------- names and values


def test_flat_settings_and_blocks_are_changed_together():
    settings = Settings.of(num_epochs=20, seed=1, gate={"dice": 0.5}, fixmatch={"confidence": 0.9}, method="fixmatch")
    assert (settings.run.num_epochs, settings.run.seed, settings.run.method) == (20, 1, "fixmatch")
    assert (settings.block("gate").dice, settings.block("fixmatch").confidence) == (0.5, 0.9)
    assert settings.block("gate").width == GateSettings().width
    assert settings.block("cutmix") == CutMixSettings()


def test_replacing_keeps_all_other_settings():
    settings = Settings.of(num_epochs=7, gate={"dice": 0.5, "width": 0.2})
    changed = settings.replace({"gate": {"dice": 0.6}}, "a test")
    assert changed.run.num_epochs == 7
    assert (changed.block("gate").dice, changed.block("gate").width) == (0.6, 0.2)
    assert settings.block("gate").dice == 0.5


def test_empty_block_and_block_as_an_object_are_fine():
    assert Settings.of(gate=None).block("gate") == GateSettings()
    assert Settings.of(gate=GateSettings(dice=0.1)).block("gate").dice == 0.1
    with pytest.raises(UserError, match=r"'gate' in .* is a block"):
        Settings.of(gate=CutMixSettings())


@pytest.mark.parametrize("value", [3, "all", [0.8]])
def test_block_that_is_no_mapping_is_refused(value):
    with pytest.raises(UserError, match=r"'gate' in my\.yaml is a block: write 'gate: \{setting: value\}', got"):
        Settings().replace({"gate": value}, "my.yaml")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"num_epoch": 3}, r"Unknown setting 'num_epoch' in my\.yaml\. Did you mean 'num_epochs'\?"),
        ({"gat": {}}, r"Unknown setting 'gat' in my\.yaml\. Did you mean \"the block 'gate'\"\?"),
        ({"area_factr": 3}, r"'area_factr' in my\.yaml\. Did you mean 'gate: \{area_factor: \.\.\.\}'\?"),
        ({"ema_decay": 0.9}, r"Did you mean 'mean_teacher: \{ema_decay: \.\.\.\}'\?"),
        ({"gate_dice": 0.9}, r"Did you mean 'gate: \{dice: \.\.\.\}'\?"),
        (
            {"gate": {"dic": 0.9}},
            r"Unknown setting 'dic' in the block 'gate' of my\.yaml\. Did you mean 'dice'\?.*width",
        ),
        ({"gate": {"box_side": 0.9}}, r"'box_side' in the block 'gate' of my\.yaml\. Did you mean 'bcp: \{box_side"),
        ({17: 3}, r"Unknown setting 17 in my\.yaml\. Flat settings: method, .*; blocks: adaptation, auto, bcp, "),
    ],
)
def test_unknown_name_is_refused_with_the_closest_one_and_its_block(overrides, message):
    with pytest.raises(UserError, match=message):
        Settings().replace(overrides, "my.yaml")


def test_suggestions_prefer_blocks_that_the_run_uses():
    with pytest.raises(UserError, match=r"Did you mean 'bcp: \{ema_decay"):
        Settings.of(method="bcp").replace({"ema_decay": 0.9}, "my.yaml")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"initial_lr": -1}, r"In my\.yaml: The setting initial_lr must be greater than 0"),
        ({"gate": {"dice": 2}}, r"In the block 'gate' of my\.yaml: The setting dice must be in \[0, 1\], got 2"),
        ({"mean_teacher": {"ema_decay": math.nan}}, r"'mean_teacher' of my\.yaml: The setting ema_decay must be"),
        ({"fixmatch": {"loss": "mce"}}, r"'fixmatch' of my\.yaml: Unknown unlabeled loss 'mce'\. Did you mean 'mse'"),
    ],
)
def test_value_that_is_not_allowed_is_refused_with_its_place(overrides, message):
    with pytest.raises(UserError, match=message):
        Settings().replace(overrides, "my.yaml")


def test_block_that_does_not_exist_is_refused_with_the_closest_name():
    with pytest.raises(UserError, match=r"no block of settings 'fixmach'\. Did you mean 'fixmatch'\?"):
        Settings().block("fixmach")


@pytest.mark.parametrize("taken", ["gate", "num_epochs"])
def test_name_is_given_once(taken):
    with pytest.raises(ValueError, match=f"already a setting or a block of settings called '{taken}'"):
        settings_block(taken, used=lambda settings: True)(SettingsBlock)


def test_a_block_that_is_no_dataclass_is_refused():
    class Forgotten(SettingsBlock):
        steps: int = setting(1, "Steps.")

    with pytest.raises(ValueError, match=r"Forgotten needs @dataclass.* without it steps would be no setting"):
        settings_block("forgotten", used=lambda settings: True)(Forgotten)
    assert "forgotten" not in BLOCKS


# ------------------------------------------------------------------------------------------------- used blocks, digest


def test_a_run_uses_the_block_of_its_method_and_what_belongs_to_all():
    assert {"gate", "cutmix", "fixmatch"} <= set(Settings.of(method="fixmatch").used_blocks())
    assert not {"cps", "bcp", "mean_teacher", "supervised"} & set(Settings.of(method="fixmatch").used_blocks())
    assert not {"gate", "cutmix", "mean_teacher"} & set(Settings.of(method="supervised").used_blocks())


def test_values_survive_a_dictionary():
    settings = Settings.of(num_epochs=20, seed=3, method="cps", cps={"weight": 0.3}, gate={"start": "any"})
    again = Settings().replace(settings.to_dict(), "a checkpoint")
    assert again.to_dict() == settings.to_dict()
    assert again.differences(settings) == {}
    assert again.sha256 == settings.sha256


def test_differences_name_block_and_both_values():
    ours = Settings.of(seed=1, mean_teacher={"ema_decay": 0.5}, cps={"weight": 0.1})
    assert ours.differences(Settings()) == {"seed": (1, None), "mean_teacher.ema_decay": (0.5, None)}
    assert "fixmatch.confidence" in ours.differences(Settings.of(method="fixmatch"))


def test_digest_changes_with_every_used_setting_and_with_no_other():
    base = Settings.of(method="bcp")
    digests = {base.sha256}
    changed = [("seed", 5), ("num_epochs", 3), ("gate", {"width": 0.2}), ("bcp", {"box_side": 0.5})]
    changed += [("cutmix", {"stretch": 0.1})]
    for name, value in changed:
        digests.add(base.replace({name: value}, "a test").sha256)
    assert len(digests) == 1 + len(changed)
    assert base.replace({"cps": {"weight": 0.1}, "fixmatch": {"confidence": 0.5}}, "a test").sha256 == base.sha256
    assert base.replace({"bcp": {}}, "a test").sha256 == base.sha256
