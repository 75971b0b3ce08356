"""Published numbers stand beside ours on the same split, and nowhere else."""

import html
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from invented import benchmark_record, held_out_cases, row_of, run_record, study_record, summary_record

from nnunet_semisam.benchmark.records import CaseSet, StudyFold
from nnunet_semisam.report.markdown import published_lines
from nnunet_semisam.report.reading.published import DATA, find_anchors, read_protocols
from nnunet_semisam.report.reading.training_cases import DatasetRecord, Manifest, TrainingCases
from nnunet_semisam.report.sections.efficiency import efficiency_chart
from nnunet_semisam.report.sections.published import published_section

ACDC, LA = read_protocols()


def benchmark_of(protocol, budget, cases=CaseSet.TEST, folder=None, steps=30_000, labels=None):
    folder = folder or Path(tempfile.mkdtemp())
    labels = labels or {label.names[0]: label.value for label in protocol.labels}
    (folder / "p").mkdir()
    (folder / "p" / "dataset.json").write_text(json.dumps({"labels": {"background": 0, **labels}}))
    groups = {
        f"{group}_frame{frame:02d}": group
        for group in protocol.test
        for frame in range(1, protocol.cases_per_test_group + 1)
    }
    return benchmark_record(
        folder,
        study=study_record(cases=cases, folds={0: StudyFold(budget, "")}, trainers=("nnUNetTrainerSupervised",)),
        held_out=held_out_cases(groups),
        runs=(run_record(budget=budget, steps=steps),),
        summaries=(summary_record(budget=budget, cases=len(groups)),),
        rows=tuple(row_of(name) for name in labels),
    )


def dataset_of(protocol, budget, suffix="_frame01", pool=None):
    unlabeled = protocol.train[budget:] if pool is None else pool
    cases = TrainingCases([name + suffix for name in protocol.train[:budget]], [name + suffix for name in unlabeled])
    return DatasetRecord({0: cases}, Manifest("LA2018", {"format": "h5"}))


def with_plans(folder, features):
    """Write the plans that nnU-Net leaves beside a training."""
    network = {"arch_kwargs": {"features_per_stage": [features, 2 * features]}}
    (folder / "m").mkdir(exist_ok=True)
    (folder / "m" / "plans.json").write_text(json.dumps({"configurations": {"2d": {"architecture": network}}}))
    return folder


@pytest.mark.parametrize(
    ("features", "steps", "why"),
    [
        (32, 30_000, []),
        (8, 30_000, ["narrow: 8 features in its first stage"]),
        (32, 29_999, ["trainings took 29999 steps"]),
        (8, 2_000, ["narrow", "2000 steps"]),
        (None, 30_000, ["plans of 2d are not beside"]),
    ],
)
def test_small_networks_and_short_trainings_are_cautioned_about(tmp_path, features, steps, why):
    if features:
        with_plans(tmp_path, features)
    benchmark, dataset = benchmark_of(ACDC, 3, folder=tmp_path, steps=steps), dataset_of(ACDC, 3)
    anchors = find_anchors(benchmark, dataset)
    section, chart = (
        html.unescape(published_section(benchmark, anchors)),
        efficiency_chart(benchmark, "2d", anchors=anchors),
    )
    assert len(anchors.limits) == len(why)
    assert all(text in limit for text, limit in zip(why, anchors.limits, strict=True))
    assert all(limit in section for limit in anchors.limits)
    assert ("Do not compare these numbers" in section) == bool(why)
    assert ("do not compare" in chart) == bool(why)
    assert "82.96" in section  # they are shown all the same


def test_what_could_not_be_verified_is_said():
    section = published_section(benchmark_of(ACDC, 3), find_anchors(benchmark_of(ACDC, 3), dataset_of(ACDC, 3)))
    rows = [row for row in section.split("<tr>") if "Ordi117/nnFilterMatch" in row]
    assert len(rows) == 3
    assert all("labeled patients not verified" in row for row in rows)
    assert "published ones." not in section.split("<table")[0]


def test_results_on_validation_cases_are_none_of_the_test_cases():
    """These publications score validation cases of ACDC, alone or among the test cases, by their authors or code."""
    assert not {"CrossMatch", "UniMatch", "OPMatch"} & {result.method for result in ACDC.results}
    assert 28.5 not in [result.dice for result in ACDC.results]  # UniMatch's own baseline
    assert "on validation cases" not in DATA.read_text()


@pytest.mark.parametrize(
    "labels",
    [
        {"whole heart": [1, 2, 3], "LV+MYO": [2, 3], "LV": 3},
        {"RV": 1, "MYO": [2, 3], "LV": 3},
        {"LV": 1, "MYO": 2, "RV": 3},
        {"a": 1, "b": 2, "c": 3},
        {"RV": 1, "LV": 3},
    ],
)
def test_other_labels_of_the_same_cases_have_none(labels):
    found = find_anchors(benchmark_of(ACDC, 3, labels=labels), dataset_of(ACDC, 3))
    assert found.results == {}
    assert "no record says that the labels are, too (RV = 1, MYO = 2, LV = 3)" in found.reason


def test_labels_that_nobody_recorded_have_none():
    benchmark = benchmark_of(ACDC, 3)
    (benchmark.folder / "p" / "dataset.json").unlink()
    assert "no record says that the labels are" in find_anchors(benchmark, dataset_of(ACDC, 3)).reason


def test_labels_by_the_names_of_nnunets_own_converter_have_anchors():
    labels = {"RV": 1, "MLV": 2, "LVC": 3}
    assert find_anchors(benchmark_of(ACDC, 3, labels=labels), dataset_of(ACDC, 3)).reason == ""


def test_markdown_holds_them_with_their_sources():
    anchors = find_anchors(benchmark_of(ACDC, 3), dataset_of(ACDC, 3))
    lines = published_lines(anchors)
    rows = [line for line in lines if line.startswith("| 3 |")]
    assert len(rows) == len(anchors.results[3])
    assert all("https://github.com/" in row for row in rows)
    (supervised,) = [row for row in rows if row.startswith("| 3 | nnU-Net, supervised | 82.96 |")]
    assert "learning rate 5e-3" in supervised  # what keeps a row from being compared stands in its note
    assert "labeled patients not verified" in supervised
    assert lines[-1].startswith("| 70 |")  # the bound
    assert "Do not compare these numbers" in "".join(lines)  # no plans lie beside this benchmark
    (why,) = published_lines(find_anchors(benchmark_of(ACDC, 2), dataset_of(ACDC, 2)))
    assert why.startswith("No published result is shown: the test cases are those of ACDC")


@pytest.mark.parametrize(("protocol", "dice"), [(ACDC, "91.44"), (LA, "91.14")])
def test_bound_of_all_labels_ends_the_table(protocol, dice):
    budget = 3 if protocol is ACDC else 16
    benchmark = benchmark_of(protocol, budget)
    section = published_section(benchmark, find_anchors(benchmark, dataset_of(protocol, budget)))
    assert dice in section.split("<tr>")[-1]
    assert ", supervised<" in section  # and a training with as few labels


def test_names_are_escaped_once():
    benchmark = benchmark_of(ACDC, 3)
    section = published_section(benchmark, replace(find_anchors(benchmark, dataset_of(ACDC, 3)), name="A & B"))
    assert "A &amp; B" in section
    assert "&amp;amp;" not in section


def test_lists_are_the_published_ones():
    assert [len(p.train) for p in (ACDC, LA)] == [70, 80]
    assert [len(set(p.test) - set(p.train)) for p in (ACDC, LA)] == [20, 20]
    for protocol in (ACDC, LA):
        keys = {(result.method, result.budget, result.source) for result in protocol.results}
        assert len(keys) == len(protocol.results)
        assert all(0 < result.dice < 100 and "https://" in result.source for result in protocol.results)


@pytest.mark.parametrize(("protocol", "budget"), [(ACDC, 3), (ACDC, 7), (LA, 4), (LA, 8), (LA, 16)])
def test_same_split_has_anchors(protocol, budget):
    found = find_anchors(benchmark_of(protocol, budget), dataset_of(protocol, budget))
    assert found.reason == ""
    assert {result.budget for result in found.results[budget]} == {budget}
    pools = found.pools[budget]
    assert pools.here == pools.published == len(protocol.train) - budget


def test_nnunet_on_three_patients_is_among_them():
    (dice,) = [
        result.dice
        for result in find_anchors(benchmark_of(ACDC, 3), dataset_of(ACDC, 3)).results[3]
        if result.method == "nnU-Net, supervised"
    ]
    assert dice == 82.96


def test_other_labeled_cases_or_a_larger_pool_have_none():
    swapped = dataset_of(ACDC, 3)
    swapped.folds[0].labeled[0] = "patient015_frame01"
    assert "labeled cases are others" in find_anchors(benchmark_of(ACDC, 3), swapped).reason
    more = dataset_of(ACDC, 3, pool=["patient101"])
    assert find_anchors(benchmark_of(ACDC, 3), more).results == {}
    assert find_anchors(benchmark_of(ACDC, 1), dataset_of(ACDC, 1)).results == {}  # nothing on these test cases


def test_other_test_cases_have_none():
    benchmark = benchmark_of(ACDC, 3)
    benchmark.held_out.groups.popitem()
    assert "no published split" in find_anchors(benchmark, dataset_of(ACDC, 3)).reason
    assert find_anchors(benchmark_of(ACDC, 3, cases=CaseSet.VAL), dataset_of(ACDC, 3)).results == {}


def test_uncropped_files_of_the_same_scans_have_none():
    dataset = replace(dataset_of(LA, 4), manifest=Manifest("LA2018", {"format": "nrrd"}))
    assert "no record says" in find_anchors(benchmark_of(LA, 4), dataset).reason


def test_unknown_training_cases_have_none():
    reason = find_anchors(benchmark_of(ACDC, 3), DatasetRecord(missing="nnUNet_raw is not set")).reason
    assert reason.endswith("nnUNet_raw is not set")


def test_section_shows_both_with_sources_and_a_smaller_pool():
    benchmark, dataset = benchmark_of(ACDC, 3), dataset_of(ACDC, 3, pool=["patient015"])
    text = published_section(benchmark, find_anchors(benchmark, dataset))
    assert "70.0 [60.0, 80.0]" in text
    assert 'href="https://github.com/Ordi117/nnFilterMatch"' in text
    assert "checkpoint selected on validation and test cases" in text
    assert "Unlabeled patients or scans beside 3 labeled: 1 here, 67 published." in text
    assert "<title>nnU-Net, supervised: 82.96 (published)</title>" in efficiency_chart(
        benchmark, "2d", anchors=find_anchors(benchmark, dataset)
    )
