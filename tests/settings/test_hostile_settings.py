"""Settings that nobody can have meant: refused by name and with what is allowed, whatever the yaml file holds."""

from __future__ import annotations

import os

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nnunet_semisam.training.trainer  # noqa: F401  registers all blocks
from nnunet_semisam.errors import UserError
from nnunet_semisam.generalists.build import check_generalists
from nnunet_semisam.settings import BLOCKS, RunSettings, Settings
from nnunet_semisam.settings import file as settings_file


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Return a function that reads a yaml text as the file that the variable names."""

    def read(text: str) -> Settings:
        path = tmp_path / "settings.yaml"
        path.write_text(text)
        monkeypatch.setenv(settings_file.VARIABLE, str(path))
        return settings_file.from_environment(Settings())

    return read


@pytest.mark.parametrize(
    ("text", "needle"),
    [
        ("num_epochs: 1" + "0" * 400, "num_epochs"),
        ("seed: 1" + "0" * 4000, "seed"),
        ("initial_lr: 1" + "0" * 400, "initial_lr"),
        ("calibration: {weights: !!binary AQ==}", "weights"),
        ("calibration: {weights: [.nan]}", "weights"),
        ("cutmix: {smallest: 0.6, largest: 0.5}", "at most largest, 0.5, got 0.6"),
        ("cutmix: {stretch: 1.0e300}", "stretch"),
        ("mean_teacher: {start: 0.9, rampup: 0.5}", "add up to at most 1"),
        ("gate: {dice: 1.0}", "1 is a perfect one"),
        ("gate: {dice: 0.9, width: 0.5}", "1 is a perfect one"),
        ('nano: {checkpoint: "a\\0b"}', "checkpoint"),
        ("nano: {checkpoint: ' '}", "checkpoint"),
        ("rejection: {margin: 100000000}", "margin"),
        ("prompts: {positive_points: 100000000}", "positive_points"),
        ("generalisation_error: {bisections: 100000000}", "bisections"),
    ],
    ids=lambda text: text[:30],
)
def test_absurd_values_are_refused_by_name(read, text, needle):
    with pytest.raises(UserError) as caught:
        read(text)
    assert needle in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_pipe_is_no_settings_file(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setenv(settings_file.VARIABLE, str(tmp_path / "pipe"))
    with pytest.raises(UserError, match="is a pipe"):
        settings_file.from_environment(Settings())


@pytest.mark.parametrize(
    ("block", "needle"),
    [
        ({"prompt": "boxx"}, "'boxx'"),
        ({"filter": "alll"}, "'alll'"),
        ({"refinement": "jiter"}, "Did you mean 'jitter'"),
        ({"channel": 2}, "they have 2, counted from 0"),
    ],
    ids=lambda block: next(iter(block)) if isinstance(block, dict) else "",
)
def test_generalists_that_cannot_be_built_are_refused_without_loading_any(block, needle):
    with pytest.raises(UserError, match="nano") as caught:
        check_generalists(Settings.of(use_sam=True, nano=block), image_channels=2)
    assert needle in str(caught.value)


NAMES = st.sampled_from([*RunSettings.names(), *BLOCKS, "dice", "weight", "models"]) | st.text(max_size=12)
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-(10**30), max_value=10**30),
    st.floats(),
    st.text(max_size=8),
    st.dates(),
    st.binary(max_size=4),
)
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
)
INSIDE = st.fixed_dictionaries(
    {},
    optional={
        name: st.dictionaries(st.sampled_from(kind.cls.names()), VALUES)
        for name, kind in BLOCKS.items()
        if kind.cls.names()
    },
)


@given(st.dictionaries(NAMES, VALUES, max_size=4) | INSIDE)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_mapping_is_taken_or_refused_in_a_readable_message(read, content):
    try:
        found = read(yaml.safe_dump(content))
    except UserError as error:
        message = str(error)
    else:
        message = ""
        assert Settings().replace(found.to_dict(), "itself").to_dict() == found.to_dict()
    assert len(message) <= 8000
    assert message.replace("\n", " ").isprintable() or not message
