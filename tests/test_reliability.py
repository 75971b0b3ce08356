"""The tool that compares confidences with hidden labels, by hand."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1]))  # at the end: an installed package comes before that of the checkout

from benchmarks.label_efficiency.reliability import POSITIONS, Bins, Reliability, draw, report


def test_calibration_error_by_hand():
    bins = Bins()
    bins.add(np.array([0.85, 0.85, 0.15, 1.0]), np.array([True, False, False, True]))
    assert bins.share_right()[8] == 0.5
    assert bins.voxels[9] == 1, "1 belongs to the last bin"
    # |0.85 - 0.5| * 2/4 + |0.15 - 0| * 1/4 + 0
    assert bins.calibration_error() == pytest.approx((2 * 0.35 + 0.15) / 4)


@pytest.fixture
def found() -> Reliability:
    """One class in four slices: seen in the first and the third, missed in the second and the last."""
    truth = np.zeros((4, 6, 6), dtype=np.int16)
    truth[:, 2:4, 2:4] = 1
    label = truth.copy()
    label[[1, 3]] = 0
    confidence = np.full(truth.shape, 0.8)
    confidence[3] = 0.2
    measured = Reliability(["1"], threshold=0.5)
    measured.add(label, confidence, truth, (5.0, 1.0, 1.0))
    return measured


def test_what_is_missed_is_told_by_slice(found):
    assert found.missed == {POSITIONS[0]: [4, 0], POSITIONS[1]: [4, 4], POSITIONS[2]: [0, 0]}


def test_figures_by_hand(found, tmp_path):
    figures = found.figures()
    assert figures["foreground learned"] == figures["of it right"] == 1.0
    assert figures["true foreground learned as such"] == 0.5
    assert figures["true foreground learned as background"] == 0.25
    assert figures["Dice of what is learned"] == pytest.approx(2 * 8 / (8 + 12))
    assert any("between slices" in line and "1.000" in line for line in report(found))
    draw({"default": found}, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000
