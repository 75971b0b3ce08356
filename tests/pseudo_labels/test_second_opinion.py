"""How alike two predictions of a case are, by hand."""

import numpy as np
import pytest
from tiny_world import classes

from nnunet_semisam.pseudo_labels.second_opinion import compare


def probs(*foreground: float) -> np.ndarray:
    """A row of voxels, background first: ``(2, 1, 1, X)``."""
    row = np.array(foreground, dtype=np.float32)[None, None]
    return np.stack([1 - row, row])


def test_voxels_and_classes_by_hand():
    found = compare(probs(0.9, 0.8, 0.1, 0.2), probs(0.9, 0.3, 0.1, 0.7), classes())
    assert found.alike[0, 0, 0].tolist() == pytest.approx([1.0, 0.5, 1.0, 0.5])
    assert found.dice == (2 * 1 / (2 + 2),)
    assert found.mean_dice == 0.5


def test_a_class_that_neither_shows_is_no_dispute_and_no_evidence():
    found = compare(probs(0.1, 0.1), probs(0.2, 0.1), classes())
    assert found.dice == (1.0,)
    assert found.mean_dice is None


def test_a_few_voxels_in_one_prediction_do_not_condemn_a_case():
    first, second = probs(*[0.1] * 100), probs(*[0.9] * 3, *[0.1] * 97)
    assert compare(first, second, classes()).dice == (0.0,)
    # a twentieth of the 1,000 voxels that the class takes elsewhere: 50 / 53
    assert compare(first, second, classes(), largest=[1000.0]).dice == pytest.approx((50 / 53,))
