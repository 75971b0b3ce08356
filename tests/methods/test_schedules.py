import math

import pytest

from nnunet_semisam.methods.parts.schedules import decay, rampup


def test_ramp_is_zero_before_its_start_and_one_after_its_end():
    assert rampup(0.099, 0.1, 0.2) == 0.0
    assert rampup(0.3, 0.1, 0.2) == 1.0
    assert rampup(1.0, 0.1, 0.2) == 1.0


def test_ramp_rises_as_laine_and_aila_say():
    assert rampup(0.1, 0.1, 0.2) == pytest.approx(math.exp(-5))
    assert rampup(0.2, 0.1, 0.2) == pytest.approx(math.exp(-5 * 0.5**2))
    values = [rampup(i / 100, 0.1, 0.2) for i in range(101)]
    assert values == sorted(values)


def test_ramp_without_length_is_a_step():
    assert [rampup(p, 0.5, 0.0) for p in (0.49, 0.5, 0.51)] == [0.0, 1.0, 1.0]
    assert rampup(0.0, 0.0, 0.0) == 1.0


def test_decay_starts_at_its_full_weight_and_ends_at_the_exponential_of_the_rate():
    assert decay(0.39, 0.4, 5.0) == 0.0
    assert decay(0.4, 0.4, 5.0) == 1.0
    assert decay(0.7, 0.4, 5.0) == pytest.approx(math.exp(-5 * 0.25))  # half of what is left
    assert decay(1.0, 0.4, 5.0) == pytest.approx(math.exp(-5))


def test_decay_without_rate_is_constant_and_a_start_at_the_end_is_defined():
    assert [decay(p, 0.0, 0.0) for p in (0.0, 0.5, 1.0)] == [1.0, 1.0, 1.0]
    assert decay(1.0, 1.0, 5.0) == 1.0
