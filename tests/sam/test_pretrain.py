from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from nnunet_semisam.errors import UserError
from nnunet_semisam.io.tensor_files import read_tensors
from nnunet_semisam.sam.nano import pretrain
from nnunet_semisam.sam.nano.model import build_nano_sam
from nnunet_semisam.sam.nano.pretrain import CHECKPOINT, LOG, Pretraining, PretrainSettings, validation_dice
from nnunet_semisam.sam.nano.pretrain_loss import edge_loss, mask_iou, mask_losses, prompt_loss
from nnunet_semisam.sam.nano.synthetic_batches import TrainingBatch

CPU = torch.device("cpu")
SETTINGS = PretrainSettings(
    steps=4, images=1, prompts=1, warmup=2, curriculum=10, window_steps=4, validate_every=100, save_every=2, workers=0
)


def small_nano():
    return build_nano_sam(image_size=224, dim=32, widths=(8, 8, 16))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain, "build_nano_sam", small_nano)
    monkeypatch.setattr(pretrain, "validation_dice", lambda *a, **k: {"box": 0.5})


def test_focal_and_dice_by_hand() -> None:
    logits, target = torch.tensor([[[[0.0, 0.0]]]]), torch.tensor([[[1.0, 0.0]]])
    # p = 1/2: focal = 1/4 ln 2 in both pixels; Dice = 1 - (2 * 1/2 + 1) / (1 + 1 + 1) = 1/3
    assert float(mask_losses(logits, target)) == pytest.approx(20 * np.log(2) / 4 + 3 / 3)


def test_edge_loss_by_hand() -> None:
    # at logit 0 every pixel costs ln 2, edges four times that: (4 + 1) / 2 ln 2
    assert float(edge_loss(torch.zeros(1, 1, 1, 2), torch.tensor([[[1.0, 0.0]]]))) == pytest.approx(2.5 * np.log(2))


def test_iou_by_hand() -> None:
    logits = torch.tensor([[[[1.0, 1.0, -1.0]], [[-1.0, -1.0, -1.0]]]])
    assert mask_iou(logits, torch.tensor([[[1.0, 0.0, 0.0]]])).tolist() == [[0.5, 0.0]]
    assert mask_iou(logits, torch.zeros(1, 1, 3))[0, 1] == 1


def test_ambiguous_prompts_are_taught_through_their_best_candidate() -> None:
    target = torch.tensor([[[1.0, 0.0]]])
    right, wrong = torch.tensor([[9.0, -9.0]]), torch.tensor([[-9.0, 9.0]])
    logits = torch.stack([wrong, wrong, right, wrong])[None]
    quality = torch.tensor([[0.0, 0.0, 1.0, 0.0]])
    assert float(prompt_loss(logits, quality, target, torch.tensor([True]))) < 0.1
    assert float(prompt_loss(logits, quality, target, torch.tensor([False]))) > 5


def test_losses_stay_on_the_device_of_the_network() -> None:
    """A table made on the CPU stopped every pretraining on a GPU; the device "meta" refuses to be mixed, too."""
    logits, quality = torch.rand(3, 4, 8, 8, device="meta"), torch.rand(3, 4, device="meta")
    target, ambiguous = torch.rand(3, 8, 8, device="meta"), torch.zeros(3, dtype=torch.bool, device="meta")
    assert prompt_loss(logits, quality, target, ambiguous).device.type == "meta"
    assert edge_loss(logits[:, :1], target).device.type == "meta"


def test_learning_rate_rises_stays_and_falls() -> None:
    settings = PretrainSettings(steps=1000, warmup=100, cooldown=0.5, learning_rate=1.0)
    assert settings.learning_rate_at(49) == pytest.approx(0.5)
    assert settings.learning_rate_at(400) == 1
    assert settings.learning_rate_at(750) == pytest.approx(0.5)
    assert settings.learning_rate_at(1000) == pytest.approx(0)


def states(folder: Path) -> dict[str, Tensor]:
    state = read_tensors(folder / CHECKPOINT, "Get it again.")
    return {**state["model"], **{f"average.{name}": value for name, value in state["average"].items()}}


def test_interrupted_run_ends_as_one_that_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Pretraining(tmp_path / "whole", SETTINGS, CPU).run()
    step = Pretraining._train_step

    def killed_in_the_fourth_step(self: Pretraining, batch: TrainingBatch) -> float:
        if self.step == 3:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(Pretraining, "_train_step", killed_in_the_fourth_step)
    with pytest.raises(KeyboardInterrupt):
        Pretraining(tmp_path / "halves", SETTINGS, CPU).run()
    monkeypatch.setattr(Pretraining, "_train_step", step)
    resumed = Pretraining(tmp_path / "halves", SETTINGS, CPU)
    assert resumed.step == 2  # the last checkpoint
    resumed.run()
    whole, halves = states(tmp_path / "whole"), states(tmp_path / "halves")
    assert all(torch.equal(whole[name], halves[name]) for name in whole)


def test_training_changes_weights_and_writes_log_and_export(tmp_path: Path) -> None:
    weights = Pretraining(tmp_path, SETTINGS, CPU).run()
    exported = read_tensors(weights, "Get it again.")
    fresh = small_nano().state_dict()
    assert exported.keys() == fresh.keys()
    assert {v.dtype for v in exported.values()} == {torch.float16}
    lines = (tmp_path / LOG).read_text().splitlines()
    assert lines[0] == "step,loss,lr,box"
    assert lines[1].startswith("4,")


def test_other_settings_in_the_same_folder_are_refused(tmp_path: Path) -> None:
    Pretraining(tmp_path, SETTINGS, CPU).run()
    assert Pretraining(tmp_path, replace(SETTINGS, steps=9), CPU).step == 4
    assert SETTINGS.window_steps is not None
    longer = Pretraining(tmp_path, replace(SETTINGS, steps=9, window_steps=None), CPU)
    assert longer.settings.window_steps == SETTINGS.window_steps, "those that the run was started with"
    with pytest.raises(UserError, match=r"seed=0 \(now 1\)"):
        Pretraining(tmp_path, replace(SETTINGS, seed=1), CPU)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(UserError, match="steps must be at least 1"):
        PretrainSettings(steps=0)
    with pytest.raises(UserError, match="learning rate"):
        PretrainSettings(learning_rate=0)


def test_validation_scores_every_kind_in_range() -> None:
    scores = validation_dice(small_nano(), CPU, batches=1)
    assert set(scores) == {"box", "points", "box+points", "box+mask", "mask", "points+mask", "box+points+mask"}
    assert all(0 <= value <= 1 for value in scores.values())
