"""Which annotations tell how often a class occurs."""

import numpy as np
import pytest

from nnunet_semisam.data.annotated_slices import Spread, slice_positions

SHAPE = (20, 10, 12)


def spread(cases):
    found = Spread()
    for annotated in cases:
        found.add(annotated)
    return found.value()


def slices(*chosen, axis=0):
    annotated = np.zeros(SHAPE, dtype=bool)
    np.moveaxis(annotated, axis, 0)[list(chosen)] = True
    return annotated


def test_every_fifth_slice_is_spread_evenly():
    assert spread([slices(1, 6, 11, 16)]) == pytest.approx(np.std([1, 6, 11, 16]) / 20)
    assert spread([slices(1, 6, 11, 16), slices(4, 9, 14, 19)]) > 0.2


def test_one_slice_per_case_is_spread_if_the_cases_differ():
    assert spread([slices(10), slices(10), slices(9)]) < 0.05
    assert spread([slices(2), slices(10), slices(17)]) > 0.2


def test_slices_along_any_axis_are_found():
    assert slice_positions(slices(0, 11, axis=2)).tolist() == pytest.approx([0.5 / 12, 11.5 / 12])


def test_scribbles_are_no_slices():
    scribble = np.zeros(SHAPE, dtype=bool)
    scribble[:, 4, 3:9] = True
    assert slice_positions(scribble) is None
    assert spread([slices(1, 6, 11, 16), scribble]) == 0


def test_cases_that_are_annotated_throughout_or_not_at_all_tell_nothing():
    everything, nothing = np.ones(SHAPE, dtype=bool), np.zeros(SHAPE, dtype=bool)
    assert spread([everything]) == spread([]) == spread([nothing]) == 0.5
    assert spread([everything, slices(10)]) == 0
