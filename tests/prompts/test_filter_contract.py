"""Every registered component filter and prompt refinement keeps its contract, in two and three dimensions."""

import copy

import pytest
import torch

from nnunet_semisam.prompts import FILTERS, PROMPTS, REFINEMENTS
from nnunet_semisam.prompts.components import find_components
from nnunet_semisam.sam.base import MaskPrediction


@pytest.fixture(params=[(30, 50), (12, 30, 50)], ids=["2d", "3d"])
def components(request):
    """An object of class 0 through five images, and one of class 1 in two of them."""
    probs = torch.full((5, 2, *request.param), 0.02)
    depth = (slice(2, 7),) * (len(request.param) - 2)
    probs[(slice(None), 0, *depth, slice(3, 11), slice(30, 46))] = 0.9
    probs[(slice(1, 3), 1, *depth, slice(20, 28), slice(2, 8))] = 0.8
    return find_components(probs, overlapping=False), request.param


@pytest.fixture(params=FILTERS.names())
def chosen(request):
    return FILTERS.get(request.param)()


@pytest.fixture(params=REFINEMENTS.names())
def refinement(request):
    return REFINEMENTS.get(request.param)()


def test_a_filter_chooses_among_the_components_in_their_order(chosen, components):
    found, _ = components
    places = [(each.image, each.channel, each.window) for each in found]
    kept = [places.index((each.image, each.channel, each.window)) for each in chosen(found)]
    assert kept
    assert kept == sorted(set(kept))
    assert len(chosen([])) == 0


def test_a_filter_changes_no_component_and_chooses_the_same_again(chosen, components):
    found, _ = components
    before = copy.deepcopy(found)
    first, second = chosen(found), chosen(found)
    for one, other in ((found, before), (first, second)):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert (a.image, a.channel, a.window, a.box.tolist()) == (b.image, b.channel, b.window, b.box.tolist())


def test_a_refinement_returns_each_prompt_in_its_place_with_no_kind_it_does_not_name(refinement, components):
    found, shape = components
    strategy = PROMPTS.get("box")()
    prompts = strategy(found, shape, [4, 7])
    masks = torch.full((len(prompts), *shape), -3.0)
    masks[..., 3:9, 30:40] = 3.0
    previous = None
    assert refinement.steps >= 1
    for step in range(refinement.steps):
        refined = refinement(prompts, shape, step, previous)
        assert refined.image.tolist() == prompts.image.tolist()
        assert refined.label.tolist() == prompts.label.tolist()
        assert refined.kinds <= strategy.kinds | refinement.kinds
        for name in ("boxes", "points", "mask_logits"):
            part = getattr(refined, name)
            assert part is None or (part.device.type == "cpu" and part.isfinite().all())
        previous = MaskPrediction(masks, torch.ones(len(prompts)))
