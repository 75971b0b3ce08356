"""The proof that no hidden label is touched: training cannot tell whether they were overwritten with noise."""

from __future__ import annotations

from pathlib import Path

import blosc2
import pytest
import tiny_nnunet
import torch
from hidden_labels import HIDDEN, fill_hidden_labels_with_noise, overwrite
from small_nano import ANY_MASK
from tiny_students import LEARNING


def change_hidden_images(root: Path) -> None:
    for case in HIDDEN:
        path = root / "preprocessed" / tiny_nnunet.DATASET / "nnUNetPlans_2d" / f"{case}.b2nd"
        image = blosc2.open(str(path))[:]
        overwrite(path, image[..., ::-1] * 1.5)


def train(build_trainer, **settings) -> tuple[dict, list]:
    trainer = build_trainer(**settings)
    trainer.run_training()
    assert trainer.pseudo_labels is None or trainer.pseudo_labels.current_round is not None
    return trainer.network.state_dict(), trainer.semisam_log.rows


SETTINGS = [
    *(pytest.param({"method": method, method: {"confidence": 0.0}}, id=method) for method in LEARNING),
    pytest.param(
        {"use_sam": True, "sam": {"start": 0.0, "confidence_threshold": 0.0, "preview_cases": 0}, **ANY_MASK}, id="sam"
    ),
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.usefixtures("sam_active", "small_sam")
def test_hidden_labels_do_not_change_a_single_bit_of_the_training(build_trainer, tiny_dataset, settings):
    before, log_before = train(build_trainer, **settings)
    fill_hidden_labels_with_noise(tiny_dataset)
    after, log_after = train(build_trainer, **settings)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert log_before == log_after


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.usefixtures("sam_active", "small_sam")
def test_hidden_images_do_change_the_training(build_trainer, tiny_dataset, settings):
    before, _ = train(build_trainer, **settings)
    change_hidden_images(tiny_dataset)
    after, _ = train(build_trainer, **settings)
    assert any(not torch.equal(before[name], after[name]) for name in before)
