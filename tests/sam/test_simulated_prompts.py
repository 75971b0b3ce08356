from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from nnunet_semisam.sam.base import BACKGROUND, FOREGROUND, PADDING
from nnunet_semisam.sam.simulate_prompts import (
    degraded_logits,
    drop_points,
    interior,
    jittered_boxes,
    pick_voxels,
    random_points,
    tight_boxes,
)


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


@pytest.fixture
def rings() -> Tensor:
    rows, columns = np.mgrid[:64, :80]
    distance = np.hypot(rows - 30, columns - 41)
    return torch.from_numpy(np.stack([(distance < 20) & (distance >= 12), distance < 12, distance < 20]))


def test_tight_boxes_are_half_open() -> None:
    masks = torch.zeros(2, 10, 12, dtype=torch.bool)
    masks[0, 3:6, 2:9] = True
    masks[1, 9, 11] = True
    assert tight_boxes(masks).tolist() == [[[3, 6], [2, 9]], [[9, 10], [11, 12]]]


def test_jittered_boxes_stay_inside_and_never_collapse() -> None:
    boxes = torch.tensor([[[0.0, 1.0], [11.0, 12.0]]]).repeat(200, 1, 1)
    moved = jittered_boxes(boxes, (10, 12), 0.3, seeded())
    assert (moved[:, :, 1] - moved[:, :, 0] >= 1 - 1e-5).all()
    assert float(moved.min()) >= 0
    assert (moved[:, :, 1] <= torch.tensor([10, 12])).all()
    assert len(moved.unique(dim=0)) > 50


def test_voxels_are_picked_in_proportion_to_their_weight() -> None:
    weights = torch.tensor([[[0.0, 1.0], [3.0, 0.0]]])
    index, found = pick_voxels(weights[:1], 4000, seeded())
    assert found.all()
    share = (index[0] == torch.tensor([1.0, 0.0])).all(1).float().mean()
    assert share == pytest.approx(0.75, abs=0.03)  # five standard deviations of 4000 draws
    assert not pick_voxels(torch.zeros(1, 2, 2), 1, seeded())[1].any()


def test_points_lie_where_they_say(rings: Tensor) -> None:
    points, labels = random_points(rings, tight_boxes(rings), (4, 4), seeded())
    assert points.shape == (3, 8, 2)
    for m in range(3):
        for (row, column), label in zip(points[m].long().tolist(), labels[m].tolist(), strict=True):
            assert label != PADDING
            assert bool(rings[m, row, column]) == (label == FOREGROUND)


def test_background_points_of_a_ring_also_fall_into_its_hole(rings: Tensor) -> None:
    ring = rings[:1].repeat(100, 1, 1)
    points, labels = random_points(ring, tight_boxes(ring), (1, 1), seeded())
    row, column = points[:, 1].long().unbind(1)
    assert (labels[:, 1] == BACKGROUND).all()
    in_hole = rings[1][row, column].float().mean()
    assert 0.05 < in_hole < 0.9


def test_mask_that_leaves_no_background_gets_padding() -> None:
    full = torch.ones(1, 16, 16, dtype=torch.bool)
    _, labels = random_points(full, tight_boxes(full), (1, 1), seeded())
    assert labels.tolist() == [[FOREGROUND, PADDING]]


def test_depth_draws_points_to_the_middle(rings: Tensor) -> None:
    disc = rings[2:]
    weights = interior(disc, 4.0)[0]
    assert (weights[~disc[0]] == 0).all()
    assert weights[30, 41] == pytest.approx(1.0, abs=1e-3)
    assert weights[30, 41 + 18] < 0.5


def test_first_point_is_never_dropped() -> None:
    labels = drop_points(torch.ones(500, 3, dtype=torch.int64), 0.5, seeded())
    assert (labels[:, 0] == 1).all()
    assert 0.4 < (labels[:, 1:] == PADDING).float().mean() < 0.6


def test_degraded_masks_get_worse_with_severity_and_stay_related(rings: Tensor) -> None:
    masks = rings.repeat(20, 1, 1)
    dice = []
    for severity in (0.0, 0.5, 1.0):
        guess = degraded_logits(masks, torch.full((60,), severity), seeded()) > 0
        dice.append(float((2 * (guess & masks).sum((1, 2)) / (guess.sum((1, 2)) + masks.sum((1, 2)))).mean()))
    assert dice[0] > 0.97
    assert dice[0] > dice[1] + 0.05 > dice[2] + 0.1
    assert dice[2] > 0.3


def test_same_seed_same_prompts(rings: Tensor) -> None:
    first, second = (degraded_logits(rings, torch.full((3,), 0.7), seeded(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, degraded_logits(rings, torch.full((3,), 0.7), seeded(6)))
