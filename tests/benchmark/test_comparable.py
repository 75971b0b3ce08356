"""A label that one run invents where another rightly shows none, by hand."""

import json

import pytest
from test_runs_and_results import BASELINE, OURS, cell, finish_training, score, written

from nnunet_semisam.benchmark import plan, results
from nnunet_semisam.benchmark.comparable import comparable
from nnunet_semisam.benchmark.metrics import UNITS
from nnunet_semisam.benchmark.records import Score

DIAGONAL = 99.0


def of_status(status, dice, label="a"):
    """Scores of one label of one case, as ``score_masks`` gives them."""
    found = []
    for metric in UNITS:
        one = score(metric, dice if metric == "dice" else 2.0, status, label)
        if status == "absent":
            one |= {"value": None, "scored": 0.0 if "volume" in metric else None}
        found.append(one)
    return found


@pytest.fixture
def write(study):
    """Return a function that writes a benchmark: trainer -> per seed, per case (status, Dice)."""

    def make(tables):
        seeds = [str(seed) for seed in range(len(tables[OURS]))]
        made = plan.begin(study("--folds", "0", "--seeds", *seeds))
        for run in made.runs():
            cases = {f"q{i}": of_status(*one) for i, one in enumerate(tables[run.trainer][run.seed])}
            (finish_training(made, run) / "scores.json").write_text(json.dumps(cases))
        return written(made)

    return make


GOOD, RIGHT, WRONG = ("ok", 0.8), ("absent", None), ("invented", 0.0)


def test_inventions_are_in_the_paired_difference(write):
    content = write({OURS: [[GOOD, GOOD, RIGHT, RIGHT]], BASELINE: [[GOOD, GOOD, WRONG, WRONG]]})
    for label in ("a", "mean"):
        ours, theirs = cell(content, OURS, "dice", label), cell(content, BASELINE, "dice", label)
        assert (ours["mean"], ours["cases"]) == (pytest.approx(0.8), 2)
        assert (theirs["mean"], theirs["cases"]) == (pytest.approx(0.4), 4)
        difference = ours["difference"]
        assert (difference["mean"], difference["cases"]) == (pytest.approx((0 + 0 + 1 + 1) / 4), 4)
        assert cell(content, OURS, "hd95", label)["difference"]["mean"] == pytest.approx(-DIAGONAL / 2)
        assert cell(content, OURS, "volume_error", label)["difference"]["mean"] == pytest.approx(-1.0)


def test_ours_is_blamed_as_the_baseline_is(write):
    content = write({OURS: [[GOOD, GOOD, WRONG, RIGHT]], BASELINE: [[GOOD, GOOD, RIGHT, RIGHT]]})
    difference = cell(content, OURS, "dice")["difference"]
    assert (difference["mean"], difference["cases"]) == (
        pytest.approx(-1 / 3),
        3,
    )  # the last case has nothing to evaluate


def test_seeds_are_averaged_alike(write):
    content = write({OURS: [[GOOD, RIGHT], [GOOD, WRONG]], BASELINE: [[GOOD, RIGHT], [GOOD, RIGHT]]})
    ours = cell(content, OURS, "dice")
    assert ours["mean"] == pytest.approx((0.8 + 0.5) / 2)
    assert ours["run_means"] == pytest.approx([0.8, 0.4])
    assert ours["difference"]["mean"] == pytest.approx((0 - 0.5) / 2)


def with_mean(entries):
    return results.with_mean([Score.from_json(entry) for entry in entries])


def test_mean_over_labels_is_over_the_same_labels_on_both_sides():
    right = {"q": of_status("ok", 0.8, "a") + of_status("absent", None, "b")}
    wrong = {"q": of_status("ok", 0.8, "a") + of_status("invented", 0.0, "b")}
    runs = [{case: with_mean(entries) for case, entries in one.items()} for one in (right, wrong)]
    tables = comparable(runs, "mean", "dice")
    assert tables == [{"q": pytest.approx(0.9)}, {"q": pytest.approx(0.4)}]


def test_a_reader_is_told(write, study):
    from nnunet_semisam.report.reading.benchmark_folder import read_benchmark
    from nnunet_semisam.report.sections.cautions import cautions

    write({OURS: [[GOOD, RIGHT]], BASELINE: [[GOOD, WRONG]]})
    text = " ".join(cautions(read_benchmark(study().folder)))
    assert "counts as perfect (Dice 1, distance 0 mm) if the other trainer invents the label" in text
