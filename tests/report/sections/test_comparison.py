"""What may be claimed of a difference, and which runs it rests on."""

import csv
import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from invented import BASELINE, OURS, benchmark_record, held_out_cases, row_of, run_record, study_record

from nnunet_semisam.benchmark import results, statistics, summary
from nnunet_semisam.benchmark.metrics import UNITS
from nnunet_semisam.benchmark.records import Difference, Equal, Run, Score, ScoreStatus
from nnunet_semisam.report.long_csv import long_csv
from nnunet_semisam.report.markdown import markdown
from nnunet_semisam.report.reading.benchmark_folder import GridCell
from nnunet_semisam.report.sections.cautions import cautions
from nnunet_semisam.report.sections.comparison import Verdict, verdict
from nnunet_semisam.report.sections.findings import findings
from nnunet_semisam.report.sections.forest import headline
from nnunet_semisam.report.sections.result_tables import class_table
from nnunet_semisam.report.sections.setup import configuration_part

OURS_CELL = GridCell("2d", 1, OURS)


def compared(values):
    """Return a benchmark of which (trainer, seed) -> Dice of every patient is known."""
    scores = {}
    for (trainer, seed), dice in values.items():
        cases = {f"p{i}": results.with_mean(same_in_all_metrics(value)) for i, value in enumerate(dice)}
        scores[Run(trainer, "2d", 0, 1, seed)] = cases
    groups = {case: case for cases in scores.values() for case in cases}
    return benchmark_record(
        Path("nowhere"),
        study=study_record(),
        held_out=held_out_cases(groups),
        runs=tuple(run_record(trainer=run.trainer, seed=run.seed) for run in scores),
        summaries=tuple(summary.summarize(scores, groups, ["2d"], [BASELINE, OURS])),
        rows=tuple(row_of(label) for label in ("a", "mean")),
    )


def same_in_all_metrics(value):
    return [Score("a", metric, value, value, ScoreStatus.OK, unit) for metric, unit in UNITS.items()]


def difference_of(benchmark):
    return benchmark.summary(OURS_CELL).difference


def same_way(patients):
    """Every patient is better by 0.1 or a little more."""
    base = [0.5 + 0.01 * i for i in range(patients)]
    return compared({(BASELINE, 0): base, (OURS, 0): [v + 0.1 + 0.001 * i for i, v in enumerate(base)]})


@pytest.mark.parametrize("patients", [2, 3, 4, 5])
def test_patients_who_agree_are_no_verdict_while_they_are_few(patients):
    benchmark = same_way(patients)
    assert difference_of(benchmark).low > 0  # the interval alone would claim it
    (sentence,) = findings(benchmark)
    assert sentence.endswith(f"no verdict, since there are too few patients ({patients}; it takes 6).")
    assert "better" not in sentence
    assert 'class="n good"' not in class_table(benchmark)
    caution = next(text for text in cautions(benchmark) if text.startswith("Too few patients for a verdict"))
    assert f"With {patients} patients, the Wilcoxon test cannot go below p {2 / 2**patients:.3g}" in caution


def test_of_one_patient_no_interval_and_no_test_is_spoken_of():
    texts = cautions(same_way(1))
    assert any("Only one patient judged some means: there is no interval" in text for text in texts)
    assert not any("Wilcoxon test cannot go below" in text or "too narrow" in text for text in texts)


def test_six_patients_who_agree_are_enough():
    benchmark = same_way(6)
    (sentence,) = findings(benchmark)
    claim = "better than nnU-Net on these cases, with these trainings."
    assert sentence.endswith(f"(p 0.031, 6 cases of 6 patients, 1 pair of runs): {claim}")
    assert class_table(benchmark).count('class="n good"') == 2  # the label and the mean
    assert not any("Too few patients" in text for text in cautions(benchmark))


def test_an_interval_without_zero_is_no_verdict_if_the_test_disagrees():
    """Five patients gain much, three lose a little: the mean is clear, the ranks are not."""
    gains = [0.10, 0.09, 0.08, 0.09, 0.11, -0.01, -0.02, -0.03]
    benchmark = compared({(BASELINE, 0): [0.5] * 8, (OURS, 0): [0.5 + gain for gain in gains]})
    difference = difference_of(benchmark)
    assert difference.low > 0
    assert difference.p > 0.05
    (sentence,) = findings(benchmark)
    assert sentence.endswith("no difference can be claimed: the interval leaves 0 out, but p is not below 0.05.")
    assert verdict(difference) is Verdict.OPEN


def test_lower_distances_are_better():
    difference = Difference(mean=-2.0, low=-3.0, high=-1.0, cases=10, groups=10, pairs=1, p=0.002)
    assert verdict(difference, "hd95") is Verdict.BETTER
    assert verdict(difference, "dice") is Verdict.WORSE
    assert verdict(None) is None


@pytest.mark.parametrize(("patients", "most"), [(3, 0), (6, 10), (10, 16)])
def test_chance_alone_is_seldom_a_verdict(patients, most, monkeypatch):
    """200 comparisons of equals: 5 % may be claimed, 10 patients' interval alone would claim twice as many."""
    monkeypatch.setattr(statistics, "RESAMPLES", 400)
    groups = {str(i): str(i) for i in range(patients)}
    claimed = 0
    for seed in range(200):
        drawn = np.random.default_rng(seed).normal(0, 0.05, patients)
        found = statistics.compare(dict(zip(groups, drawn, strict=True)), dict.fromkeys(groups, 0.0), groups)
        claimed += verdict(Difference(pairs=1, **vars(found))).is_claim
    assert claimed <= most


def test_a_difference_tells_when_the_means_beside_it_rest_on_other_runs():
    """Ours has three seeds done, the baseline one: 47.3 against 60 is no difference of +2."""
    dice = {(BASELINE, 0): 0.60, (OURS, 0): 0.62, (OURS, 1): 0.40, (OURS, 2): 0.40}
    benchmark = compared({key: [v + 0.001 * i for i in range(6)] for key, v in dice.items()})
    assert (benchmark.summary(OURS_CELL).runs, difference_of(benchmark).pairs) == (3, 1)
    (sentence,) = findings(benchmark)
    assert "(3 runs), nnU-Net 60.2 [60.1, 60.4] (1 run)" in sentence
    assert "the means do not compare. In 1 pair of runs that do, the difference is +2.0" in sentence
    assert "+2.0 [+2.0, +2.0] (1 pair)" in class_table(benchmark)
    assert any(text.startswith("Some means rest on other runs") for text in cautions(benchmark))
    row = next(line for line in markdown(benchmark).splitlines() if OURS in line)
    assert row.endswith("| 0 | 3 | 1 |")
    rows = csv.DictReader(io.StringIO(long_csv(benchmark)))
    assert {(r["runs"], r["difference_pairs"]) for r in rows if r["trainer"] == OURS} == {("3", "1")}


def test_matched_runs_need_no_such_words():
    dice = {(trainer, seed): [0.5 + 0.01 * i for i in range(6)] for trainer in (BASELINE, OURS) for seed in (0, 1)}
    benchmark = compared(dice)
    (sentence,) = findings(benchmark)
    assert "2 pairs of runs" in sentence
    assert "do not compare" not in sentence
    assert "pair)" not in class_table(benchmark)


@pytest.mark.parametrize(("hours", "words"), [(1.05, None), (1.5, "took 1.50 times the hours"), (0.5, "0.50 times")])
def test_equal_time_is_compared_with_the_hours_that_were_taken(benchmark_result, hours, words):
    runs = []
    for run in benchmark_result.runs:
        cost = replace(run.cost, train_hours=hours if run.trainer == OURS else 1.0)
        runs.append(replace(run, cost=cost))
    study = replace(benchmark_result.study, equal=Equal.TIME)
    benchmark = replace(benchmark_result, study=study, runs=tuple(runs))
    sentences = [text for text in cautions(benchmark) if "Time was to be equal" in text]
    assert len(sentences) == (words is not None)
    assert all(words in text and "SemiSAM" in text for text in sentences)
    same_steps = replace(benchmark, study=replace(study, equal=Equal.STEPS))
    assert not any("Time was to be equal" in text for text in cautions(same_steps))


def test_the_baseline_has_the_same_length_only_where_steps_are_equal(benchmark_result):
    assert "plain nnU-Net with the same training length" in configuration_part(benchmark_result)
    study = replace(benchmark_result.study, equal=Equal.TIME)
    text = configuration_part(replace(benchmark_result, study=study))
    assert "same training length" not in text
    assert "train for fewer epochs" in text


def test_a_setting_of_a_block_is_shown_by_its_whole_name(benchmark_result):
    settings = {"num_epochs": 30, "gate": {"dice": 0.8}}
    text = configuration_part(replace(benchmark_result, study=replace(benchmark_result.study, settings=settings)))
    assert "<tr><td>gate.dice</td><td>0.8</td></tr>" in text


@pytest.mark.parametrize(("patients", "left"), [(6, 0), (10, 2)])
def test_the_headline_says_what_remains_when_all_comparisons_count(patients, left):
    """Two comparisons of p 0.031 are 0.062 after Holm's correction; two of 0.002 are 0.004."""
    difference = difference_of(same_way(patients))
    two = SimpleNamespace(grid=lambda: range(2), summary=lambda cell: SimpleNamespace(difference=difference))
    assert headline(two) == (
        "Of 2 comparisons with nnU-Net: 2 better. Each is looked at alone; corrected for their number (Holm), "
        f"{left} of the 2 that are better or worse remain so."
    )
