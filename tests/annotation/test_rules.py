"""Rules of suggestion on invented evidence, by hand calculation."""

from dataclasses import replace

import numpy as np
import pytest

from nnunet_semisam.annotation.suggest import as_text, rank
from nnunet_semisam.annotation.suggestions import RULES, CaseEvidence, Request
from nnunet_semisam.commands.suggest import RULES as OFFERED
from nnunet_semisam.errors import UserError

CLASSES = ("shell", "core")


def case(name, entropy=0.1, by_class=(0.1, 0.1), voxels=(10, 10), dice=(None, None), features=(1.0, 0.0)):
    return CaseEvidence(name, entropy, entropy / 2, list(by_class), list(voxels), list(dice), list(features))


def suggested(rule, evidence, count=1, **options):
    return [each.case for each in rank(evidence, rule, Request(count, CLASSES, **options))]


@pytest.mark.parametrize("rule", RULES.names())
def test_every_rule_returns_as_many_different_cases_as_wanted_and_the_same_ones_again(rule):
    rng = np.random.default_rng(0)
    evidence = [
        case(f"case{i}", *rng.random(1), by_class=rng.random(2), dice=rng.random(2).tolist(), features=rng.random(3))
        for i in range(9)
    ]
    chosen = suggested(rule, evidence, 5, seed=3)
    assert len(set(chosen)) == 5
    assert suggested(rule, evidence[::-1], 5, seed=3) == chosen  # the order of files says nothing
    assert len(suggested(rule, evidence, 9)) == 9


@pytest.mark.parametrize("rule", RULES.names())
def test_no_rule_stumbles_over_cases_in_which_the_model_shows_nothing(rule):
    evidence = [case(name, voxels=(0, 0), by_class=(0.0, 0.0), entropy=0.0) for name in "abc"]
    assert sorted(suggested(rule, evidence, 3)) == ["a", "b", "c"]


def test_entropy_and_disagreement_rank_by_their_number():
    evidence = [case("a", 0.1, dice=(0.9, 0.5)), case("b", 0.3, dice=(0.8, None)), case("c", 0.2, dice=(0.1, 0.3))]
    assert suggested("entropy", evidence, 3) == ["b", "c", "a"]
    assert suggested("disagreement", evidence, 3) == ["c", "a", "b"]


def test_disagreement_without_a_sam_says_how_to_ask_one():
    with pytest.raises(UserError, match="Add --sam nano"):
        suggested("disagreement", [case("a"), case("b")])


def test_diversity_takes_what_is_far_from_labeled_and_from_chosen_cases():
    features = {"a": (1.0, 0.0), "a2": (0.99, 0.01), "b": (0.0, 1.0), "b2": (0.01, 0.99), "c": (-1.0, 0.0)}
    evidence = [case(name, features=values) for name, values in features.items()]
    assert suggested("diversity", evidence, 2, labeled_features=[(1.0, 0.0)]) == ["c", "b"]
    with pytest.raises(UserError, match="has none"):
        suggested("diversity", [replace(evidence[0], features=[])])


def test_class_stratified_without_noise_takes_the_least_certain_case_of_each_class_in_turn():
    evidence = [
        case("sure", 0.1, by_class=(0.1, 0.1)),
        case("shell?", 0.2, by_class=(0.9, 0.1)),
        case("core?", 0.2, by_class=(0.1, 0.95)),
        case("all?", 0.8, by_class=(0.5, 0.5)),
        case("no core", 0.1, by_class=(0.1, 1.0), voxels=(10, 0)),  # nothing of it is predicted
    ]
    assert suggested("class_stratified", evidence, 3, beta=1e9) == ["core?", "shell?", "all?"]


def test_noise_of_class_stratified_is_of_scale_one_over_beta():
    """Two cases whose entropies differ by the factor e: by Gumbel noise the surer is first in 1 of 1 + e ** beta."""
    evidence = [case("sure", np.exp(-2.0)), case("unsure", np.exp(-1.0))]
    for beta, wanted in ((1.0, 1 / (1 + np.e)), (3.0, 1 / (1 + np.e**3))):
        first = [suggested("class_stratified", evidence, class_share=0.0, beta=beta, seed=i) for i in range(1500)]
        assert np.mean([chosen == ["sure"] for chosen in first]) == pytest.approx(wanted, abs=0.035)


def test_chance_takes_cases_with_foreground_first_and_depends_on_the_seed():
    evidence = [case(f"case{i}", voxels=(i % 2, 0)) for i in range(8)]
    draws = [suggested("random", evidence, 4, seed=seed) for seed in range(5)]
    assert all({int(name[-1]) % 2 for name in chosen} == {1} for chosen in draws)
    assert len({tuple(chosen) for chosen in draws}) > 1


def test_more_cases_than_there_are_cannot_be_suggested():
    with pytest.raises(UserError, match="-n must be 1 to 2"):
        suggested("entropy", [case("a"), case("b")], 3)


def test_the_console_offers_every_rule():
    assert sorted(OFFERED) == RULES.names()


def test_text_names_the_cases():
    ranking = rank([case("a", 0.1), case("b", 0.3)], "entropy", Request(2, CLASSES))
    lines = as_text(ranking, 7, "entropy").splitlines()
    assert lines[0] == "2 of 7 unlabeled cases, by entropy:"
    assert lines[1].split()[:3] == ["1", "b", "0.300"]
    assert lines[-1] == "annotate: b, a"
