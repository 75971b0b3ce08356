"""Trainer against trainer, by hand calculation."""

from __future__ import annotations

import pytest

from nnunet_semisam.benchmark.pairwise import compare_trainers, holm
from nnunet_semisam.benchmark.records import Run, Score, ScoreStatus


def score(dice: float) -> list[Score]:
    return [Score(label, "dice", dice, dice, ScoreStatus.OK, "1") for label in ("a", "mean")]


def scores_of(dice_by_trainer):
    """Return the scores of runs: (trainer, seed) -> Dice of every patient."""
    return {
        Run(trainer, "2d", 0, 1, seed): {f"p{i}": score(dice) for i, dice in enumerate(values)}
        for (trainer, seed), values in dice_by_trainer.items()
    }


def test_holm_multiplies_the_smallest_by_all_the_next_by_one_less_and_never_falls():
    assert holm([0.01, 0.02, 0.022]) == pytest.approx([0.03, 0.04, 0.04])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_pairs_are_compared_on_the_seeds_that_both_have():
    scores = scores_of({("A", 0): [0.5] * 6, ("A", 1): [0.6] * 6, ("B", 1): [0.7] * 6, ("C", 2): [0.9] * 6})
    groups = {f"p{i}": f"p{i}" for i in range(6)}
    (pair,) = compare_trainers(scores, groups, "2d", 1, ["A", "B", "C"])
    assert (pair.trainer, pair.other) == ("B", "A")
    assert pair.difference.mean == pytest.approx(0.1), "seed 1 alone"
    assert (pair.difference.pairs, pair.difference.groups) == (1, 6)
    assert pair.difference.p == pair.corrected_p == pytest.approx(2 / 2**6), "all six patients agree; one comparison"


def test_the_correction_is_over_all_pairs_of_a_configuration_and_budget():
    scores = scores_of({("A", 0): [0.5] * 6, ("B", 0): [0.7] * 6, ("C", 0): [0.9] * 6})
    groups = {f"p{i}": f"p{i}" for i in range(6)}
    found = compare_trainers(scores, groups, "2d", 1, ["A", "B", "C"])
    assert [(pair.trainer, pair.other) for pair in found] == [("B", "A"), ("C", "A"), ("C", "B")]
    assert [pair.corrected_p for pair in found] == pytest.approx([3 * 2 / 2**6] * 3)
    assert compare_trainers(scores, groups, "2d", 3, ["A", "B", "C"]) == []
