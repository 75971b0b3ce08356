"""Every registered prompt strategy keeps the contract, in two and three dimensions."""

import pytest
import torch

from nnunet_semisam.prompts import PROMPTS
from nnunet_semisam.prompts.components import find_components
from nnunet_semisam.sam.base import PADDING

LABELS = [4, 7]


@pytest.fixture(params=PROMPTS.names())
def strategy(request):
    return PROMPTS.get(request.param)()


@pytest.fixture(params=[(30, 50), (12, 30, 50)], ids=["2d", "3d"])
def probs(request) -> torch.Tensor:
    """Two images, not square; class 4 off-centre in image 0, class 7 twice in image 1."""
    probs = torch.full((2, 2, *request.param), 0.02)
    depth = (slice(2, 7),) * (len(request.param) - 2)
    probs[(0, 0, *depth, slice(3, 11), slice(30, 46))] = 0.9
    probs[(1, 1, *depth, slice(20, 28), slice(2, 8))] = 0.8
    probs[(1, 1, *depth, slice(5, 15), slice(20, 40))] = 0.7
    return probs


def prompts_for(strategy, probs, labels=LABELS):
    return strategy(find_components(probs, overlapping=False), probs.shape[2:], labels)


def test_one_prompt_per_component_in_the_order_of_the_components(strategy, probs):
    prompts = prompts_for(strategy, probs)
    components = find_components(probs, overlapping=False)
    assert prompts.image.tolist() == [0, 1, 1]
    assert prompts.label.tolist() == [4, 7, 7]
    assert [(c.image, LABELS[c.channel]) for c in components] == list(
        zip(prompts.image.tolist(), prompts.label.tolist(), strict=True)
    )
    assert components[1].voxels > components[2].voxels, "large components come first"


def test_every_kind_belongs_to_its_own_component(strategy, probs):
    prompts = prompts_for(strategy, probs)
    for m, component in enumerate(find_components(probs, overlapping=False)):
        inside = torch.zeros(probs.shape[2:], dtype=torch.bool)
        inside[component.window] = torch.from_numpy(component.inside)
        if prompts.boxes is not None:
            box = torch.zeros_like(inside)
            box[tuple(slice(int(a), int(b)) for a, b in prompts.boxes[m])] = True
            assert (box & inside).sum() == inside.sum()
            assert box.sum() < 3 * inside.sum()
        if prompts.mask_logits is not None:
            assert torch.equal(prompts.mask_logits[m] > 0, inside)
        if prompts.points is not None:
            for point, meaning in zip(prompts.points[m].long().tolist(), prompts.point_labels[m].tolist(), strict=True):
                if meaning != PADDING:
                    assert bool(inside[tuple(point)]) == bool(meaning)


def test_shapes_and_types_are_those_of_a_prompt_batch(strategy, probs):
    prompts = prompts_for(strategy, probs)
    axes = probs.ndim - 2
    assert prompts.image.dtype == prompts.label.dtype == torch.int64
    if prompts.boxes is not None:
        assert prompts.boxes.shape == (3, axes, 2)
        assert prompts.boxes.is_floating_point()
    if prompts.points is not None:
        assert prompts.points.shape == (*prompts.point_labels.shape, axes)
        assert prompts.point_labels.dtype == torch.int64
    if prompts.mask_logits is not None:
        assert prompts.mask_logits.shape == (3, *probs.shape[2:])
        assert prompts.mask_logits.isfinite().all()


def test_no_prompts_where_the_specialist_sees_nothing_and_kinds_are_named_all_the_same(strategy, probs):
    some, none = prompts_for(strategy, probs), prompts_for(strategy, torch.full_like(probs, 0.01))
    assert len(none) == 0
    assert none.kinds == some.kinds == strategy.kinds


def test_same_components_same_prompts(strategy, probs):
    first, second = prompts_for(strategy, probs.clone()), prompts_for(strategy, probs.clone())
    for name, value in vars(first).items():
        assert value is None or torch.equal(value, getattr(second, name))


def test_refuses_labels_that_do_not_fit_the_channels(strategy, probs):
    with pytest.raises(ValueError, match="needs a label"):
        prompts_for(strategy, probs, [1])
