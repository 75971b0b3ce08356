"""Labeled cases get an error of a given size before a generalist is measured on them."""

import numpy as np
import pytest
from tiny_world import classes, disc

from nnunet_semisam.pseudo_labels.case_outcome import dice
from nnunet_semisam.pseudo_labels.generalisation_error import simulate_generalisation_error

LABEL = disc((20, 30), 10).astype(np.int16)


def network_of(mask: np.ndarray, sure: float = 0.9) -> np.ndarray:
    foreground = np.where(mask, sure, 1 - sure).astype(np.float32)
    return np.stack([1 - foreground, foreground])


def shifted(by: int) -> np.ndarray:
    return np.roll(LABEL, by, axis=2) == 1


@pytest.mark.parametrize("estimated", [0.6, 0.8, 0.9])
def test_the_simulated_error_meets_the_estimated_dice(estimated):
    worse = simulate_generalisation_error(network_of(LABEL == 1), LABEL, classes(), estimated, (8.0, 1.0, 1.0), "case")
    assert worse.shape == (2, *LABEL.shape)
    assert dice(worse.argmax(0) == 1, LABEL == 1) == pytest.approx(estimated, abs=0.03)
    assert np.allclose(worse.sum(axis=0), 1, atol=1e-5)


def test_the_simulated_error_repeats_and_differs_between_cases():
    first, again, other = (
        simulate_generalisation_error(network_of(LABEL == 1), LABEL, classes(), 0.8, (8.0, 1.0, 1.0), name)
        for name in ("a", "a", "b")
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_network_that_is_no_better_than_estimated_is_left_alone():
    poor = network_of(shifted(8))
    assert simulate_generalisation_error(poor, LABEL, classes(), 0.9, (8.0, 1.0, 1.0), "a") is poor
    assert simulate_generalisation_error(poor, np.zeros_like(LABEL), classes(), 0.0, (8.0, 1.0, 1.0), "a") is poor


def test_what_is_predicted_on_the_ignore_label_is_no_error():
    ignored = LABEL.copy()
    ignored[:, :, 31:] = 2
    network = network_of(LABEL == 1)  # right everywhere, and half of it on the ignore label
    worse = simulate_generalisation_error(network, ignored, classes(), 0.8, (8.0, 1.0, 1.0), "a")
    assert worse is not network
    valid = ignored < 2
    assert dice((worse.argmax(0) == 1) & valid, ignored == 1) == pytest.approx(0.8, abs=0.03)
