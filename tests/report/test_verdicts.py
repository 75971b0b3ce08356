"""What may be claimed of a difference, and which runs it rests on."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from nnunet_semisam.benchmark import results, statistics, summary
from nnunet_semisam.benchmark.plan import BASELINE, Run
from nnunet_semisam.report.long_csv import long_csv
from nnunet_semisam.report.markdown import markdown
from nnunet_semisam.report.reading.benchmark_folder import Benchmark
from nnunet_semisam.report.sections import comparison, findings, result_tables
from nnunet_semisam.report.sections import setup as setup_section

OURS = "nnUNetTrainerSemiSAM"


def compared(values):
    """Return a benchmark of which (trainer, seed) -> Dice of every patient is known."""
    scores = {
        Run(trainer, "2d", 0, 1, seed): {
            f"p{i}": results.with_mean(
                [{"label": "a", "metric": m, "value": v, "scored": v, "status": "ok"} for m in ALL]
            )
            for i, v in enumerate(dice)
        }
        for (trainer, seed), dice in values.items()
    }
    groups = {case: case for cases in scores.values() for case in cases}
    study = {"cases": "test", "configurations": ["2d"], "trainers": [BASELINE, OURS], "equal": "steps", "dataset": "D"}
    runs = [
        {"run": run.name, "budget": 1, "status": "done", "trainer": run.trainer, "configuration": "2d", "training": "x"}
        for run in scores
    ]
    cells = results.without_nan(list(summary.summarize(scores, groups, ["2d"], [BASELINE, OURS])))
    content = {"study": study, "baseline": BASELINE, "cases": {"groups": groups}, "runs": runs, "summary": cells}
    rows = [{"run": "x", "label": label, "metric": "dice", "unit": "1"} for label in ("a", "mean")]
    return Benchmark(Path("nowhere"), content, rows)


ALL = summary.UNITS


def same_way(patients):
    """Every patient is better by 0.1 or a little more."""
    base = [0.5 + 0.01 * i for i in range(patients)]
    return compared({(BASELINE, 0): base, (OURS, 0): [v + 0.1 + 0.001 * i for i, v in enumerate(base)]})


@pytest.mark.parametrize("patients", [2, 3, 4, 5])
def test_patients_who_agree_are_no_verdict_while_they_are_few(patients):
    benchmark = same_way(patients)
    difference = benchmark.cell("2d", 1, OURS, "mean", "dice")["difference"]
    assert difference["low"] > 0  # the interval alone would claim it
    (said,) = findings.findings(benchmark)
    assert said.endswith(f"no verdict, since there are too few patients ({patients}; it takes 6).")
    assert "better" not in said
    assert 'class="n good"' not in result_tables.class_table(benchmark)
    caution = next(text for text in findings.cautions(benchmark) if text.startswith("Too few patients for a verdict"))
    assert f"With {patients} patients, the Wilcoxon test cannot go below p {2 / 2**patients:.2g}" in caution


def test_six_patients_who_agree_are_enough():
    benchmark = same_way(6)
    (said,) = findings.findings(benchmark)
    assert said.endswith("(p 0.031, 6 cases of 6 patients, 1 pair of runs): better than nnU-Net on these cases.")
    assert result_tables.class_table(benchmark).count('class="n good"') == 2  # the label and the mean
    assert not any("Too few patients" in text for text in findings.cautions(benchmark))


def test_an_interval_without_zero_is_no_verdict_if_the_test_disagrees():
    """Five patients gain much, three lose a little: the mean is clear, the ranks are not."""
    gains = [0.10, 0.09, 0.08, 0.09, 0.11, -0.01, -0.02, -0.03]
    benchmark = compared({(BASELINE, 0): [0.5] * 8, (OURS, 0): [0.5 + gain for gain in gains]})
    difference = benchmark.cell("2d", 1, OURS, "mean", "dice")["difference"]
    assert difference["low"] > 0
    assert difference["p"] > 0.05
    (said,) = findings.findings(benchmark)
    assert said.endswith("no difference can be claimed: the interval leaves 0 out, but p is not below 0.05.")
    assert comparison.verdict(difference) == comparison.OPEN


def test_lower_distances_are_better():
    difference = {"mean": -2.0, "low": -3.0, "high": -1.0, "groups": 10, "p": 0.002}
    assert comparison.verdict(difference, "hd95") == comparison.BETTER
    assert comparison.verdict(difference, "dice") == comparison.WORSE
    assert comparison.verdict(None) == ""


@pytest.mark.parametrize(("patients", "most"), [(3, 0), (6, 10), (10, 16)])
def test_chance_alone_is_seldom_a_verdict(patients, most, monkeypatch):
    """200 comparisons of equals: 5 % may be claimed, 10 patients' interval alone would claim twice as many."""
    monkeypatch.setattr(statistics, "RESAMPLES", 400)
    groups = {str(i): str(i) for i in range(patients)}
    claimed = 0
    for seed in range(200):
        drawn = np.random.default_rng(seed).normal(0, 0.05, patients)
        found = statistics.compare(dict(zip(groups, drawn, strict=True)), dict.fromkeys(groups, 0.0), groups)
        claimed += comparison.verdict(vars(found)) in (comparison.BETTER, comparison.WORSE)
    assert claimed <= most


def test_a_difference_tells_when_the_means_beside_it_rest_on_other_runs():
    """Ours has three seeds done, the baseline one: 47.3 against 60 is no difference of +2."""
    dice = {(BASELINE, 0): 0.60, (OURS, 0): 0.62, (OURS, 1): 0.40, (OURS, 2): 0.40}
    benchmark = compared({key: [v + 0.001 * i for i in range(6)] for key, v in dice.items()})
    cell = benchmark.cell("2d", 1, OURS, "mean", "dice")
    assert (cell["runs"], cell["difference"]["pairs"]) == (3, 1)
    (said,) = findings.findings(benchmark)
    assert "(3 runs), nnU-Net 60.2 [60.1, 60.4] (1 run)" in said
    assert "the means do not compare. In 1 pair of runs that do, the difference is +2.0" in said
    assert "+2.0 [+2.0, +2.0] (1 pair)" in result_tables.class_table(benchmark)
    assert any(text.startswith("Some means rest on other runs") for text in findings.cautions(benchmark))
    row = next(line for line in markdown(benchmark).splitlines() if OURS in line)
    assert row.endswith("| 0 | 3 | 1 |")
    rows = csv.DictReader(io.StringIO(long_csv(benchmark)))
    assert {(r["runs"], r["difference_pairs"]) for r in rows if r["trainer"] == OURS} == {("3", "1")}


def test_matched_runs_need_no_such_words():
    dice = {(trainer, seed): [0.5 + 0.01 * i for i in range(6)] for trainer in (BASELINE, OURS) for seed in (0, 1)}
    benchmark = compared(dice)
    (said,) = findings.findings(benchmark)
    assert "2 pairs of runs" in said
    assert "do not compare" not in said
    assert "pair)" not in result_tables.class_table(benchmark)


@pytest.mark.parametrize(("hours", "words"), [(1.05, None), (1.5, "took 1.50 times the hours"), (0.5, "0.50 times")])
def test_equal_time_is_held_against_the_hours_that_were_taken(benchmark_result, hours, words):
    content = json.loads(json.dumps(benchmark_result.content))
    content["study"]["equal"] = "time"
    for run in content["runs"]:
        run["train_hours"] = hours if run["trainer"] == OURS else 1.0
    benchmark = Benchmark(benchmark_result.folder, content, benchmark_result.rows)
    said = [text for text in findings.cautions(benchmark) if "Time was to be equal" in text]
    assert len(said) == (words is not None)
    assert all(words in text and "SemiSAM" in text for text in said)
    content["study"]["equal"] = "steps"
    assert not any("Time was to be equal" in text for text in findings.cautions(benchmark))


def test_the_baseline_has_the_same_length_only_where_steps_are_equal(benchmark_result):
    content = json.loads(json.dumps(benchmark_result.content))
    benchmark = Benchmark(benchmark_result.folder, content, benchmark_result.rows)
    assert "plain nnU-Net with the same training length" in setup_section.configuration_part(benchmark)
    content["study"]["equal"] = "time"
    text = setup_section.configuration_part(benchmark)
    assert "same training length" not in text
    assert "train for fewer epochs" in text
