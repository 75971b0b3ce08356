import math
import pickle

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_semisam.data import views as module
from nnunet_semisam.data.views import UnlabeledViews, switch_off_benchmarks
from nnunet_semisam.errors import UserError

PATCH = {2: (32, 32), 3: (8, 24, 24)}
CROP = {2: (40, 40), 3: (10, 30, 30)}
TURN = (-math.pi / 6, math.pi / 6)


def nnunet_transforms(dims: int = 2, dummy_2d: bool = False, turned: bool = True, **more) -> ComposeTransforms:
    """nnU-Net's own; ``turned``: every patch is rotated and scaled."""
    transforms = nnUNetTrainer.get_training_transforms(PATCH[dims], TURN, None, tuple(range(dims)), dummy_2d, **more)
    for transform in transforms.transforms:
        if turned and type(transform).__name__ == "SpatialTransform":
            transform.p_rotation = transform.p_scaling = 1.0
    return transforms


def without_intensities(views: UnlabeledViews) -> UnlabeledViews:
    views.intensity = []
    return views


def ball(dims: int, dummy_2d: bool = False) -> torch.Tensor:
    """An off-centre bright ball, ``(1, *S)``: where it is tells the geometry."""
    shape = (PATCH[3][0], *CROP[3][1:]) if dummy_2d else CROP[dims]  # nnU-Net crops no spare slices then
    axes = torch.meshgrid(*[torch.arange(s, dtype=torch.float32) for s in shape], indexing="ij")
    center = [s * 0.4 for s in shape]
    distance = sum(((x - c) / (1 if s > 12 else 0.4)) ** 2 for x, c, s in zip(axes, center, shape, strict=True))
    return (distance.sqrt() < 7).float()[None]


@pytest.mark.parametrize(("dims", "dummy_2d"), [(2, False), (3, False), (3, True)])
def test_both_views_and_the_pseudo_label_show_the_same_geometry(dims, dummy_2d):
    torch.manual_seed(0)
    np.random.seed(0)
    views = without_intensities(UnlabeledViews(nnunet_transforms(dims, dummy_2d), 3.0))
    marker, places = ball(dims, dummy_2d), []
    for _ in range(10):
        out = views(marker.clone(), None, marker.to(torch.int16), 0.5 * marker)
        assert out["weak"].shape == out["strong"].shape == (1, *PATCH[dims])
        assert torch.equal(out["weak"], out["strong"])
        inside, labeled = out["weak"] > 0.5, out["pseudo_label"] > 0
        deep = (out["weak"] < 1e-3) | (out["weak"] > 1 - 1e-3)  # all neighbours are of one kind
        assert torch.equal(inside[deep], labeled[deep])  # at borders, one interpolates, the other takes the nearest
        assert abs(inside.sum() - labeled.sum()) <= 0.05 * inside.sum()
        known = out["pseudo_label"] >= 0
        torch.testing.assert_close(out["pseudo_confidence"][known], 0.5 * out["weak"][known])
        places.append(tuple(round(float(x), 1) for x in inside.nonzero().float().mean(0)))
    assert len(set(places)) == 10  # the views did move


@pytest.mark.parametrize(("dims", "dummy_2d"), [(2, False), (3, True)])
def test_strong_view_adds_intensities_and_moves_nothing(dims, dummy_2d):
    torch.manual_seed(1)
    np.random.seed(1)
    views = UnlabeledViews(nnunet_transforms(dims, dummy_2d), 100.0)  # every intensity transform, every time
    assert all(t.apply_probability == 1.0 for t in views.intensity)
    marker = 100 * ball(dims, dummy_2d)
    marker = marker + torch.randn(marker.shape)
    out = views(marker)
    weak, strong = out["weak"].flatten(), out["strong"].flatten()
    assert not torch.equal(weak, strong)
    assert torch.corrcoef(torch.stack([weak, strong]))[0, 1] > 0.8
    assert set(out) == {"weak", "strong"}


@pytest.mark.parametrize("dims", [2, 3])
def test_two_strong_views_show_one_geometry_in_intensities_of_their_own(dims):
    torch.manual_seed(1)
    np.random.seed(1)
    marker = 100 * ball(dims) + torch.randn(ball(dims).shape)
    plain = without_intensities(UnlabeledViews(nnunet_transforms(dims), 1.0, strong_views=2))
    out = plain(marker.clone())
    assert set(out) == {"weak", "strong", "strong2"}
    assert torch.equal(out["strong2"], out["weak"])  # moved alike
    assert out["strong2"].data_ptr() != out["strong"].data_ptr()
    views = UnlabeledViews(nnunet_transforms(dims), 100.0, strong_views=2)  # every intensity transform, every time
    out = views(marker.clone())
    assert not torch.equal(out["strong"], out["strong2"])
    for strong in (out["strong"], out["strong2"]):
        assert not torch.equal(strong, out["weak"])
        assert torch.corrcoef(torch.stack([out["weak"].flatten(), strong.flatten()]))[0, 1] > 0.8


def test_second_strong_view_is_masked_too():
    views = UnlabeledViews(nnunet_transforms(turned=False), 100.0, masked_channels=[0], strong_views=2)
    views.spatial = []
    inside = torch.zeros(1, *PATCH[2], dtype=torch.int16)
    inside[:, :, :10] = -1
    out = views(torch.randn(1, *PATCH[2]) + 50, inside)
    assert out["strong2"][0, :, :10].eq(0).all()
    assert out["strong2"][0, :, 10:].ne(0).any()


def test_weak_view_is_nnunets_spatial_augmentation_to_the_bit():
    transforms = nnunet_transforms()
    image = torch.randn(1, *CROP[2])
    views = UnlabeledViews(transforms, 1.0)
    for seed in range(3):
        torch.manual_seed(seed)
        np.random.seed(seed)
        ours = views(image.clone())["weak"]
        torch.manual_seed(seed)
        np.random.seed(seed)
        sample = {"image": image.clone()}
        for transform in transforms.transforms:
            if type(transform).__name__ in ("SpatialTransform", "MirrorTransform"):
                sample = transform(**sample)
        assert torch.equal(ours, sample["image"])


def test_intensity_probabilities_are_scaled_and_clipped():
    transforms = nnunet_transforms()
    stock = [t.apply_probability for t in transforms.transforms if isinstance(t, RandomTransform)]
    assert stock == [0.1, 0.2, 0.15, 0.15, 0.25, 0.1, 0.3]
    scaled = [t.apply_probability for t in UnlabeledViews(transforms, 4.0).intensity]
    assert scaled == pytest.approx([0.4, 0.8, 0.6, 0.6, 1.0, 0.4, 1.0])
    assert [t.apply_probability for t in UnlabeledViews(transforms, 0.0).intensity] == [0.0] * 7
    assert [t.apply_probability for t in transforms.transforms if isinstance(t, RandomTransform)] == stock  # untouched


def test_every_transform_of_nnunet_is_filed():
    transforms = nnunet_transforms(3, True, use_mask_for_norm=[True], regions=[(1, 2), (2,)], ignore_label=3)
    views = UnlabeledViews(transforms, 1.0)
    filed = len(views.spatial) + len(views.intensity)
    assert [type(t).__name__ for t in views.spatial] == [
        "Convert3DTo2DTransform",
        "SpatialTransform",
        "Convert2DTo3DTransform",
        "MirrorTransform",
    ]
    others = {module._name(t) for t in transforms.transforms} & module.FOR_LABELS
    assert others == {"MaskImageTransform", "RemoveLabelTransform", "ConvertSegmentationToRegionsTransform"}
    assert filed + len(others) == len(transforms.transforms)


class Solarize(BasicTransform):
    """A transform that nobody has filed."""


@pytest.mark.parametrize("wrap", [lambda t: t, RandomTransform, lambda t: ComposeTransforms([t])])
def test_unknown_transform_is_refused(wrap):
    transforms = ComposeTransforms([*nnunet_transforms().transforms, wrap(Solarize())])
    with pytest.raises(UserError, match=r"holds Solarize, .*Add it to the table"):
        UnlabeledViews(transforms, 1.0)


def test_where_nothing_is_claimed_there_is_no_confidence():
    torch.manual_seed(2)
    np.random.seed(2)
    views = without_intensities(UnlabeledViews(nnunet_transforms(), 1.0))
    label = torch.ones(1, *CROP[2], dtype=torch.int16)
    label[:, :, :15] = -1
    confidence = torch.ones(1, *CROP[2])
    for _ in range(10):
        out = views(torch.zeros(1, *CROP[2]), None, label.clone(), confidence.clone())
        unknown = out["pseudo_label"] < 0
        assert 0 < unknown.sum() < unknown.numel()
        assert out["pseudo_confidence"][unknown].eq(0).all()
        assert out["pseudo_confidence"][~unknown].mean() > 0.9
        assert out["pseudo_confidence"].min() >= 0
        assert out["pseudo_confidence"].max() <= 1
        assert set(out["pseudo_label"].unique().tolist()) == {-1, 1}


def test_pseudo_labels_become_regions():
    torch.manual_seed(3)
    views = without_intensities(UnlabeledViews(nnunet_transforms(turned=False), 1.0, regions=[(1, 2), (2,)]))
    views.spatial = []
    label = torch.tensor([[0, 1, 2, -1]], dtype=torch.int16)[None]
    out = views(torch.zeros(1, 1, 4), None, label, torch.ones(1, 1, 4))
    assert out["pseudo_label"].dtype == torch.bool
    assert out["pseudo_label"][:, 0].tolist() == [[False, True, True, False], [False, False, True, False]]
    assert out["pseudo_confidence"].flatten().tolist() == [1, 1, 1, 0]


def test_masked_channels_are_zero_outside_in_both_views():
    torch.manual_seed(4)
    np.random.seed(4)
    views = UnlabeledViews(nnunet_transforms(), 100.0, masked_channels=[0])
    image = torch.randn(2, *CROP[2]) + 50
    inside = torch.zeros(1, *CROP[2], dtype=torch.int16)
    inside[:, :, :18] = -1
    image[0, :, :18] = 0.0
    for _ in range(5):
        out = views(image.clone(), inside.clone())
        weak, strong = out["weak"], out["strong"]
        outside = weak[0] == 0
        assert 0 < outside.sum() < outside.numel()
        assert strong[0][outside].eq(0).all()
        assert (strong[0][~outside] != 0).float().mean() > 0.9
        assert (strong[1][outside] != 0).any()  # the other channel is not masked


def test_mask_and_pseudo_label_travel_together():
    views = without_intensities(UnlabeledViews(nnunet_transforms(turned=False), 1.0, masked_channels=[0]))
    views.spatial = []
    image, label = torch.full((1, 1, 4), 9.0), torch.tensor([[[0, 1, 2, -1]]], dtype=torch.int16)
    inside = torch.tensor([[[0, 0, -1, -1]]], dtype=torch.int16)
    out = views(image, inside, label, torch.ones(1, 1, 4))
    assert out["weak"].flatten().tolist() == [9, 9, 0, 0]
    assert out["pseudo_label"].flatten().tolist() == [0, 1, 2, -1]
    assert out["pseudo_confidence"].flatten().tolist() == [1, 1, 1, 0]


def test_weak_view_is_not_changed_by_the_strong_one():
    views = UnlabeledViews(nnunet_transforms(turned=False), 100.0)
    views.spatial = []
    image = torch.randn(1, *PATCH[2])
    out = views(image.clone())
    assert torch.equal(out["weak"], image)
    assert not torch.equal(out["strong"], image)


def test_views_travel_to_other_processes():
    views = pickle.loads(pickle.dumps(UnlabeledViews(nnunet_transforms(), 2.0, [0], [(1,)])))
    image = torch.randn(1, *CROP[2])
    results = []
    for each in (views, pickle.loads(pickle.dumps(views))):
        torch.manual_seed(5)
        np.random.seed(5)
        switch_off_benchmarks(ComposeTransforms(each.intensity))
        results.append(each(image.clone(), torch.zeros(1, *CROP[2], dtype=torch.int16))["strong"])
    assert torch.equal(*results)


def test_benchmarks_are_switched_off():
    transforms = nnunet_transforms()
    blur = next(t.transform for t in transforms.transforms if module._name(t) == "GaussianBlurTransform")
    assert blur.benchmark
    switch_off_benchmarks(transforms)
    assert not blur.benchmark
