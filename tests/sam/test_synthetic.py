from __future__ import annotations

import numpy as np
import pytest
import torch

from nnunet_semisam.sam.nano.synthetic import SMALLEST_AREA, Scene, add_heart, object_masks, random_scene, render
from nnunet_semisam.sam.nano.synthetic_batches import KIND_SHARES, SyntheticBatches, region_edges
from nnunet_semisam.sam.nano.synthetic_shapes import Oval, grid, smooth_field, spline_basis, wedge
from nnunet_semisam.sam.simulate_prompts import KINDS


def test_splines_share_out_everything() -> None:
    np.testing.assert_allclose(spline_basis(50, 7).sum(1), 1, atol=1e-6)


def test_fields_are_smooth_and_of_unit_spread() -> None:
    field = smooth_field(np.random.default_rng(0), 128, 16, 8)
    assert field.std() == pytest.approx(1, abs=0.3)
    assert np.abs(np.diff(field, axis=2)).std() < 0.25  # a spline cell is 8 pixels wide


def test_oval_is_the_ellipse_it_says() -> None:
    y, x = grid(64)
    level = Oval((30, 20), (10, 5)).level(y, x)
    expected = ((y - 30) / 10) ** 2 + ((x - 20) / 5) ** 2 < 1
    assert np.array_equal(level < 1, expected)


def test_wedge_opens_in_its_direction() -> None:
    y, x = grid(21)
    part = wedge(y, x, (10, 10), np.pi / 2, 1.0)  # sine goes with y: downwards
    assert part[18, 10]
    assert not part[2, 10]
    assert not part[10, 18]


def test_a_heart_offers_wall_and_cavity_within_the_same_box() -> None:
    rng = np.random.default_rng(3)
    scene = Scene(np.zeros((128, 128), np.int16), [0.5])
    add_heart(rng, scene, *grid(128), 20.0, np.array([0.2, 0.8], np.float32))
    wall, cavity = scene.objects[-4], scene.objects[-2]
    assert scene.objects[-1] == (*wall, *cavity)
    assert np.isin(scene.regions, wall).sum() > 100
    assert np.isin(scene.regions, cavity).sum() > 100


@pytest.mark.parametrize("easy", [0.0, 1.0])
def test_scenes_can_be_asked_about_and_shown(easy: float) -> None:
    rng = np.random.default_rng(1)
    for _ in range(5):
        scene = random_scene(rng, 96, easy)
        image = render(rng, scene)
        assert image.shape == (96, 96)
        assert image.dtype == np.float32
        assert np.isfinite(image).all()
        assert image.std() > 0
        assert scene.regions.max() < len(scene.means)
        masks = object_masks(scene, 5, rng, 1)
        assert masks.shape == (5, 96, 96)
        assert masks.any((1, 2)).all()


def test_nothing_large_enough_is_said() -> None:
    scene = Scene(np.zeros((8, 8), np.int16), [0.5], objects=[(0,)])
    with pytest.raises(LookupError, match="large enough"):
        object_masks(scene, 1, np.random.default_rng(0), 65)


def test_batch_is_a_function_of_seed_and_index() -> None:
    batches = [SyntheticBatches(100, seed, curriculum=50, size=64, images=2)[7] for seed in (1, 1, 2)]
    assert torch.equal(batches[0].images, batches[1].images)
    assert batches[0].kinds == batches[1].kinds
    assert all(torch.equal(a, b) for a, b in zip(batches[0].targets, batches[1].targets, strict=True))
    assert not torch.equal(batches[0].images, batches[2].images)


def test_shares_name_every_kind_once_and_sum_to_one() -> None:
    assert set(KIND_SHARES) == set(KINDS)
    for end in (0, 1):
        assert sum(shares[end] for shares in KIND_SHARES.values()) == pytest.approx(1)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_ask_with_the_kind_they_name(kind: str) -> None:
    batch = SyntheticBatches(10, 0, size=64, images=2, prompts=3, groups=1, kinds=(kind,))[4]
    prompts, target = batch.prompts[0], batch.targets[0]
    assert batch.images.dtype == torch.uint8
    assert target.shape == (6, 32, 32)
    assert (target.flatten(1).sum(1) * 4 >= SMALLEST_AREA - 1e-3).all()
    assert prompts.image.tolist() == [0, 0, 0, 1, 1, 1]
    assert (prompts.boxes is not None) == ("box" in kind)
    assert (prompts.points is not None) == ("points" in kind)
    assert (prompts.mask_logits is not None) == ("mask" in kind)


def test_curriculum_starts_with_boxes_and_large_things() -> None:
    data = SyntheticBatches(1000, 0, curriculum=10**6, size=64, images=2)
    first = [kind for i in range(12) for kind in data[i].kinds]
    assert all("box" in kind for kind in first)
    assert min(float(t.flatten(1).sum(1).min()) * 4 for i in range(6) for t in data[i].targets) > 10 * SMALLEST_AREA


def test_edges_lie_between_regions() -> None:
    regions = torch.zeros(4, 4, dtype=torch.int16)
    regions[2:, 1:] = 5
    assert region_edges(regions).int().tolist() == [[0, 0, 0, 0], [0, 1, 1, 1], [1, 0, 0, 0], [1, 0, 0, 0]]
