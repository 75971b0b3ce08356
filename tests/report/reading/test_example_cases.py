"""Which cases are shown is decided by numbers alone."""

from invented import BASELINE, OURS

from nnunet_semisam.report.reading import example_cases


def test_examples_are_worst_median_best_and_largest_loss(benchmark_result):
    examples = [e for e in example_cases.choose_examples(benchmark_result) if e.runs[0].budget == 1]
    ours, base = (next(r for r in examples[0].runs if r.trainer == name) for name in (OURS, BASELINE))
    dice = example_cases.case_dice(benchmark_result, ours)
    found = {reason.split(" of ")[0]: e.case for e in examples for reason in e.reasons}
    assert found["worst"] == min(dice, key=dice.get)
    assert found["best"] == max(dice, key=dice.get)
    assert sorted(dice.values())[3] == dice[found["median"]]
    (lost,) = [e.case for e in examples for reason in e.reasons if "loses most" in reason]
    theirs = example_cases.case_dice(benchmark_result, base)
    assert lost == min(dice, key=lambda case: dice[case] - theirs[case])
    assert all((r.fold, r.seed) == (0, 0) for e in examples for r in e.runs)
