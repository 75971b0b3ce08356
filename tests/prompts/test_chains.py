from dataclasses import replace

import numpy as np
import torch

from nnunet_semisam.prompts import FILTERS, PromptSettings
from nnunet_semisam.prompts.chains import Chains, centre, overlap
from nnunet_semisam.prompts.components import find_components


def components_of(*squares, slices=8, channels=1, size=60):
    """Find the components of squares, each ``(channel, slice, row, column, side)``."""
    probs = torch.zeros(slices, channels, size, size)
    for channel, index, row, column, side in squares:
        probs[index, channel, row : row + side, column : column + side] = 0.9
    return find_components(probs, overlapping=True)


def kept(components, **settings):
    return [(c.channel, c.image) for c in Chains(PromptSettings(**settings))(components)]


def test_a_component_of_one_slice_is_dropped_and_a_chain_of_three_stays():
    found = components_of((0, 2, 10, 10, 8), (0, 3, 11, 10, 8), (0, 4, 12, 10, 8), (0, 6, 40, 40, 8))
    assert kept(found) == [(0, 2), (0, 3), (0, 4)]
    assert kept(found, chain_length=1) == [(0, 2), (0, 3), (0, 4), (0, 6)]
    assert kept(found, chain_length=4) == []


def test_a_window_of_three_bridges_a_slice_without_the_component():
    found = components_of((0, 1, 10, 10, 8), (0, 3, 10, 10, 8), (0, 4, 10, 10, 8))
    assert kept(found) == [(0, 1), (0, 3), (0, 4)]
    assert kept(found, chain_window=2) == []


def test_components_that_hardly_overlap_are_no_chain():
    drifting = [(0, z, 10, 10 + 7 * z, 8) for z in range(4)]  # an eighth of each lies over the next
    assert kept(components_of(*drifting)) == []
    assert len(kept(components_of(*drifting), chain_overlap=0.1, chain_shift=1.0)) == 4


def test_components_whose_centres_are_far_apart_are_no_chain():
    found = components_of((0, 1, 0, 0, 40), (0, 2, 0, 0, 8), (0, 3, 0, 0, 8))  # the small ones lie inside
    assert kept(found, chain_length=3, chain_shift=10.0) == [(0, 1), (0, 2), (0, 3)]
    assert kept(found, chain_length=3, chain_shift=0.3) == []


def test_classes_form_chains_of_their_own():
    found = components_of((0, 1, 10, 10, 8), (1, 2, 10, 10, 8), (0, 3, 10, 10, 8), channels=2)
    assert kept(found, chain_window=2) == []
    found = components_of(*[(1, z, 10, 10, 8) for z in range(3)], (0, 1, 10, 10, 8), channels=2)
    assert kept(found) == [(1, 0), (1, 1), (1, 2)]


def test_two_components_of_a_slice_join_one_chain():
    found = components_of((0, 1, 10, 10, 20), (0, 2, 10, 10, 8), (0, 2, 22, 22, 8), (0, 3, 10, 10, 20))
    assert len(kept(found, chain_shift=1.0)) == 4


def test_boxes_are_smoothed_along_the_chain_and_voxels_stay():
    found = components_of((0, 1, 10, 10, 8), (0, 2, 13, 10, 8), (0, 3, 10, 10, 8))
    first, middle, last = Chains()(found)
    assert middle.box.tolist() == [[11, 19], [10, 18]]  # mean of 10, 13, 10 and of 18, 21, 18
    assert first.box.tolist() == [[11, 20], [10, 18]]  # mean of 10 and 13, of 18 and 21, outwards
    assert last.box.tolist() == first.box.tolist()
    assert all(np.array_equal(new.inside, old.inside) for new, old in zip((first, middle, last), found, strict=True))
    assert found[1].box.tolist() == [[13, 21], [10, 18]]  # what was given stays


def test_a_case_of_one_slice_has_no_chains_and_loses_nothing():
    found = components_of((0, 0, 10, 10, 8), (0, 0, 40, 40, 8), slices=1)
    assert len(kept(found)) == 2
    assert kept([]) == []


def test_in_a_volume_a_component_has_to_reach_through_several_voxels_along_every_axis():
    probs = torch.zeros(1, 1, 10, 20, 20)
    probs[0, 0, 2:6, 2:12, 2:12] = 0.9
    probs[0, 0, 8:9, 2:12, 2:12] = 0.9
    found = find_components(probs, overlapping=True)
    assert [component.box[0].tolist() for component in Chains()(found)] == [[2, 6]]


def test_overlap_and_centre_are_those_of_the_masks():
    first, second = components_of((0, 1, 10, 20, 8), (0, 2, 14, 22, 8))
    assert overlap(first, second) == 4 * 6
    assert centre(first).tolist() == [13.5, 23.5]
    far = replace(second, window=(slice(50, 60), slice(50, 60)), inside=np.ones((10, 10), dtype=bool))
    assert overlap(first, far) == 0


def test_filters_are_found_by_name():
    assert FILTERS.get("chains") is Chains
    found = components_of((0, 2, 10, 10, 8))
    assert FILTERS.get("all")()(found) == found


def test_where_a_structure_forks_each_branch_keeps_its_own_box():
    """The mean of both branches is a box between them that holds neither."""
    bar = [(0, z, 20, column, 12) for z in (0, 1) for column in (6, 16, 26, 36)]  # touching squares: one bar
    left, right = ([(0, z, 20, column, 12) for z in range(2, 7)] for column in (6, 36))
    found = components_of(*bar, *left, *right)
    smoothed = Chains(PromptSettings(chain_overlap=0.2, chain_shift=2.0))(found)
    assert len(smoothed) == len(found) == 12
    for component in smoothed:
        middle = centre(component)
        assert ((component.box[:, 0] <= middle) & (middle < component.box[:, 1])).all(), component.box
    last = [component.box[1].tolist() for component in smoothed if component.image == 6]
    assert sorted(last) == [[6, 18], [36, 48]]
