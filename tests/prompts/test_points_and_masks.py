"""Where points lie, what a ring looks like, and how prompts vary."""

import numpy as np
import torch

from nnunet_semisam.prompts import PROMPTS
from nnunet_semisam.prompts.base import PromptSettings
from nnunet_semisam.prompts.components import find_components
from nnunet_semisam.prompts.refinements import Jitter

LOGIT_LIMIT = PromptSettings().logit_limit


def prompts_for(name, probs, labels, settings=None):
    return PROMPTS.get(name)(settings)(find_components(probs, overlapping=False), probs.shape[2:], labels)


def variants(prompts, image_shape):
    return [Jitter()(prompts, image_shape, step, None) for step in range(Jitter.steps)]


def ring(shape=(60, 90), center=(25, 60), inner=8, outer=16) -> torch.Tensor:
    rows, columns = np.indices(shape)
    radius = np.hypot(rows - center[0], columns - center[1])
    return torch.from_numpy(((radius >= inner) & (radius < outer)).astype(np.float32))[None, None]


def of_kind(prompts, kind: int, m: int = 0) -> list[tuple[int, ...]]:
    return [tuple(p) for p in prompts.points[m][prompts.point_labels[m] == kind].long().tolist()]


def test_a_ring_gets_positives_on_it_and_a_negative_in_its_hole():
    prompts = prompts_for("points", ring(), [2])
    radii = [np.hypot(r - 25, c - 60) for r, c in of_kind(prompts, 1)]
    assert len(radii) == 3
    assert all(9.5 < radius < 14.5 for radius in radii), "in the middle of the wall, which spans 8 to 16"
    holes = [np.hypot(r - 25, c - 60) for r, c in of_kind(prompts, 0)]
    assert holes[0] < 2, "the first negative is the middle of the hole"
    assert all(radius >= 16 for radius in holes[1:]), "the others are just outside"


def test_positives_are_spread_over_the_object():
    first, second, third = (np.array(p) for p in of_kind(prompts_for("points", ring(), [2]), 1))
    assert min(np.linalg.norm(first - second), np.linalg.norm(first - third), np.linalg.norm(second - third)) > 12


def test_positives_avoid_the_uncertain_half():
    probs = torch.zeros(1, 1, 40, 60)
    probs[..., 10:30, 10:50] = 0.6
    probs[..., 10:30, 10:32] = 0.95  # more than half of the object
    assert all(column < 32 for _, column in of_kind(prompts_for("points", probs, [1]), 1))


def test_a_neighbouring_class_gets_a_negative():
    probs = torch.zeros(1, 2, 40, 60)
    probs[0, 0, 10:30, 10:30] = 0.95
    probs[0, 1, 10:30, 30:50] = 0.95
    row, column = of_kind(prompts_for("points", probs, [1, 2]), 0)[0]
    assert 10 <= row < 30
    assert 30 <= column < 50


def test_an_object_that_fills_the_image_has_no_negative():
    prompts = prompts_for("points", torch.ones(1, 1, 20, 30), [1])
    assert of_kind(prompts, 0) == []
    assert len(of_kind(prompts, 1)) == 3


def test_mask_logits_are_the_clipped_logit_and_exclude_other_components():
    probs = torch.full((1, 1, 40, 60), 0.1)
    probs[..., 10:20, 10:20] = 0.9
    probs[..., 10:20, 22:32] = 0.8
    logits = prompts_for("mask", probs, [1]).mask_logits
    assert torch.allclose(logits[0, 12, 12], torch.tensor(np.log(9.0), dtype=torch.float32), atol=1e-4)
    assert logits[0, 12, 22] == -LOGIT_LIMIT, "the other component"
    assert logits[0, 35, 55] == -LOGIT_LIMIT, "far away"
    assert torch.allclose(logits[0, 9, 12], torch.tensor(-np.log(9.0), dtype=torch.float32), atol=1e-4)


def test_box_is_tight_with_a_small_margin_and_clipped():
    probs = torch.zeros(1, 1, 50, 90)
    probs[..., 0:40, 20:60] = 1.0
    assert prompts_for("box", probs, [1]).boxes[0].tolist() == [[0, 42], [18, 62]]


def test_jitter_prompts_for_more_and_for_less():
    prompts = prompts_for("box_points_mask", ring(), [2])
    same, generous, strict = variants(prompts, (60, 90))
    assert same is prompts
    extent = [(b.boxes[..., 1] - b.boxes[..., 0]).min() for b in (strict, same, generous)]
    assert extent[0] < extent[1] < extent[2]
    area = [int((b.mask_logits > 0).sum()) for b in (strict, same, generous)]
    assert area[0] <= area[1] <= area[2]
    assert [(b.point_labels == 1).sum().item() for b in (same, generous, strict)] == [3, 1, 2]
    assert [(b.point_labels == 0).sum().item() for b in (same, generous, strict)] == [3, 1, 3]


def test_a_strict_box_never_vanishes():
    probs = torch.zeros(1, 1, 30, 30)
    probs[..., 5:6, 5:25] = 1.0
    for batch in variants(prompts_for("box", probs, [1]), (30, 30)):
        assert (batch.boxes[..., 1] - batch.boxes[..., 0] >= 1).all()


def test_settings_decide_how_many_points_there_are():
    settings = PromptSettings(positive_points=1, negative_points=5)
    prompts = prompts_for("points", ring(), [2], settings)
    assert prompts.points.shape == (1, 6, 2)
    assert len(of_kind(prompts, 1)) == 1
    assert len(of_kind(prompts, 0)) == 5
    without = prompts_for("points", ring(), [2], PromptSettings(negative_points=0))
    assert of_kind(without, 0) == []
