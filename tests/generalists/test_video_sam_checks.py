"""What would stop a training with a SAM's memory is found before it begins."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from tiny_sam2 import build_tiny_sam2

from nnunet_semisam.checks.stage import look_at_generalists
from nnunet_semisam.pseudo_labels import settings as pseudo_label_settings  # noqa: F401  registers the block sam
from nnunet_semisam.settings import Settings

PLAN = SimpleNamespace(channels=1)


def problems(tmp_path, fetch: bool = False, **block) -> list[str]:
    settings = Settings.of(use_sam=True, sam={"models": ["propagation"]}, propagation=block)
    found, needs_spacing = look_at_generalists(settings, PLAN, tmp_path, fetch)
    assert not needs_spacing
    return found


def test_weights_that_are_there_are_no_problem(tmp_path):
    build_tiny_sam2().save_pretrained(tmp_path / "sam2")
    assert problems(tmp_path, checkpoint=str(tmp_path / "sam2")) == []


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"checkpoint": "gone"}, "names gone, which is no file"),
        ({"model": "medsam2"}, "huggingface.co/wanglab/MedSAM2"),
        ({"model": "nano", "prompt": "box"}, "without a memory"),
        ({"channel": 1}, "channel"),
    ],
)
def test_what_would_stop_a_training_is_said(tmp_path, monkeypatch, block, message):
    monkeypatch.setenv("nnUNet_sam", str(tmp_path))
    (found,) = problems(tmp_path, **block)
    assert message in found


def test_the_settings_of_every_generalist_are_looked_at_not_of_sams_only(tmp_path):
    found, _ = look_at_generalists(Settings.of(use_sam=True, sam={"models": ["nninteractive"]}), PLAN, tmp_path, False)
    assert any("CC BY-NC-SA" in problem for problem in found)
