"""The mask of the first pass prompts the second."""

from __future__ import annotations

import pytest
import torch

from nnunet_semisam.errors import UserError
from nnunet_semisam.generalists.build import check_generalists
from nnunet_semisam.prompts import REFINEMENTS
from nnunet_semisam.pseudo_labels import settings as pseudo_label_settings  # noqa: F401  registers the blocks
from nnunet_semisam.sam import families
from nnunet_semisam.sam.base import MaskPrediction, PromptBatch
from nnunet_semisam.settings import Settings

FIRST = torch.zeros(2, dtype=torch.int64)
BOXES = torch.tensor([[[0.0, 4.0], [0.0, 4.0]]]).repeat(2, 1, 1)


def second(prompts: PromptBatch, logits: torch.Tensor) -> PromptBatch:
    refinement = REFINEMENTS.get("second_pass")()
    assert refinement(prompts, (1, 3), 0, None) is prompts
    return refinement(prompts, (1, 3), 1, MaskPrediction(logits, torch.ones(2)))


def test_the_first_mask_is_a_guess_within_the_limit_and_the_box_stays():
    made = second(PromptBatch(FIRST, FIRST, boxes=BOXES), torch.tensor([[[50.0, -50.0, 2.0]], [[1.0, -1.0, -3.0]]]))
    assert made.mask_logits.tolist() == [[[8.0, -8.0, 2.0]], [[1.0, -1.0, -3.0]]]
    assert torch.equal(made.boxes, BOXES)


def test_an_empty_mask_is_no_guess():
    empty = torch.tensor([[[-1.0, float("nan"), -1.0]], [[1.0, 1.0, 1.0]]])
    guess = torch.full((2, 1, 3), 3.0)
    assert second(PromptBatch(FIRST, FIRST, mask_logits=guess), empty).mask_logits.tolist()[0] == [[3.0, 3.0, 3.0]]
    assert second(PromptBatch(FIRST, FIRST, boxes=BOXES), empty).mask_logits.tolist()[0] == [[0.0, 0.0, 0.0]]


def test_a_sam_without_mask_prompts_is_refused_before_anything_runs(monkeypatch):
    from dataclasses import replace

    monkeypatch.setitem(families.FAMILIES, "nano", replace(families.FAMILIES["nano"], prompts=("box",)))
    settings = Settings.of(use_sam=True, nano={"prompt": "box", "refinement": "second_pass"})
    with pytest.raises(UserError, match=r"the refinement 'second_pass' \(mask\)"):
        check_generalists(settings)
