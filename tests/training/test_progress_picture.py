"""What the picture of a training's progress shows."""

import math

import pytest

from nnunet_semisam.figures import figure_style
from nnunet_semisam.pseudo_labels.round_log import CaseRecord, RoundLog, RoundRecord
from nnunet_semisam.training.progress_picture import PictureSetup, mean_agreement, progress_figure

NAMES = {1: "RV", 2: "MYO"}


def row(epoch, weight=0.0):
    shares = {"unlabeled_confidence": 0.7 if weight else math.nan}
    dice = {"labeled_dice_0": 0.99, "labeled_dice_1": 0.1 * epoch, "labeled_dice_2": 0.2 * epoch}
    return {"epoch": epoch, "unlabeled_weight": weight, "estimated_dice": 0.5, **shares, **dice, "class_weight_1": 1.0}


def case(epoch, *agreement):
    channels = len(agreement)
    some, none = (0.5,) * channels, (0,) * channels
    empty = tuple((0,) * 10 for _ in range(channels + 1))
    names = tuple(str(f + 1) for f in range(channels))
    return CaseRecord(0, epoch, "case", names, agreement, some, some, none, none, none, some, 0.5, empty, {}, None)


def texts(ax):
    return [] if ax.get_legend() is None else [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.fixture
def draw():
    def draw(rows, **setup):
        with figure_style():
            return progress_figure(rows, PictureSetup(NAMES, 0.8, 0.5, **setup)).axes

    return draw


def test_classes_have_their_names_and_the_gate_its_line(draw):
    dice, weights, *_ = draw([row(0), row(1)])
    assert texts(dice) == ["RV", "MYO", "active from 0.8"]
    assert texts(weights) == ["RV", "active (0.5)"]
    assert dice.lines[0].get_ydata() == pytest.approx([0.0, 0.1])
    assert dice.lines[-1].get_ydata() == [0.8, 0.8]


def test_the_first_epoch_of_unlabeled_terms_is_marked_in_every_panel(draw):
    axes = draw([row(0), row(1), row(2, weight=0.1), row(3, weight=0.2)])
    assert texts(axes[0])[0] == "unlabeled terms from epoch 2"
    assert all(list(ax.lines[0].get_xdata()) == [2, 2] for ax in axes)
    assert [ax.get_title(loc="right") for ax in axes] == [""] * 5


def test_a_training_without_unlabeled_terms_says_so(draw):
    axes = draw([row(0), row(1)])
    assert axes[0].get_title(loc="right") == "no unlabeled term so far"
    assert texts(axes[2]) == [], "what stands in for the agreement before anything was compared is not shown"


def test_rounds_are_marked_and_agreement_with_sam_is_shown_by_class(draw):
    rounds = RoundLog((), (case(2, 0.5, None), case(2, 0.7, None)), (RoundRecord(0, 2, 2, True, 1.0),))
    dice, _, agreement, *_ = draw([row(0), row(1), row(2, weight=0.1)], rounds=rounds)
    marks = next(line for line in dice.lines if line.get_label() == "round of pseudo-labels")
    assert list(marks.get_xdata()) == [2]
    assert texts(agreement) == ["student, target (mean)", "network, SAM: RV"]
    points = next(line for line in agreement.lines if line.get_label() == "network, SAM: RV")
    assert (list(points.get_xdata()), list(points.get_ydata())) == ([2], [pytest.approx(0.6)])


def test_agreement_is_the_mean_over_the_cases_that_have_one():
    records = [case(4, 0.2, None), case(4, 0.4, 0.9), case(1, 1.0, None), case(4, 0.5)]  # the last: other channels
    assert mean_agreement(records, 2) == [[(1, 1.0), (4, pytest.approx(0.3))], [(4, 0.9)]]
