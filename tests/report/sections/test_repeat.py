"""The commands of the page: they can be parsed, and say what is on record of data, plans, folds and software."""

import json
import shlex

import pytest

from nnunet_semisam import cli
from nnunet_semisam.report.reading.training_cases import DatasetRecord, Manifest, SplitRequest
from nnunet_semisam.report.sections import data_commands
from nnunet_semisam.report.sections import repeat as commands_section

MINI = {
    "data_identifier": "nnUNetPlans_2d",
    "patch_size": [192, 160],
    "batch_size": 8,
    "architecture": {"arch_kwargs": {"features_per_stage": [8, 16, 32, 64, 80, 80]}},
}
HEART = {"labeled_patients": [["a"], ["a", "b"]], "val_patients": ["v"], "group": "(.)"}

NUMBERS = {"labeled": ["name:3", "name:1"], "val": ["name:02"]}  # patients called by numbers


def parsed(line):
    return cli.build_parser().parse_args(shlex.split(line)[1:])


@pytest.mark.parametrize(
    ("name", "settings", "wanted"),
    [
        (
            "ACDC",
            {"split": "ssl4mis", "labeled_patients": [["p1"], ["p1", "p2", "p3"]]},
            {"labeled": ["1", "3"], "split": "ssl4mis", "dataset_id": 901},
        ),
        ("ACDC", {"split": "ssl4mis", "labeled_patients": [["p1"]]}, {"labeled": ["p1"], "split": "ssl4mis"}),
        (
            "LA2018",
            {"format": "h5", "labeled_cases": [["A", "B"]], "val_cases": ["X", "Y"]},
            {"labeled": ["A", "B"], "val": ["X", "Y"], "format": "h5"},
        ),
        (
            "BHSD",
            {"labeled_cases": [["A"]], "val_cases": [], "left_out": ["Z"]},
            {"labeled": ["A"], "val": ["0"], "leave_out": ["Z"]},
        ),
        ("ACDC", HEART, {"labeled": ["1", "2"], "val": ["v"]}),  # another dataset of that name, taken apart
        ("Heart", HEART, {"labeled": ["1", "2"], "val": ["v"], "group": "(.)"}),
        ("Heart", {**HEART, "labeled_patients": [["3", "1"]], "val_patients": ["02"]}, NUMBERS),
        ("Heart", {**HEART, "labeled_patients": [["3"], ["3", "1"]]}, {"labeled": ["+1", "+2"]}),
    ],
)
def test_conversion_is_repeated_with_the_settings_on_record(name, settings, wanted):
    manifest = Manifest(name, settings)
    *before, line = data_commands.convert_commands(DatasetRecord(manifest=manifest), "901")
    args = vars(parsed(line))
    assert {key: args[key] for key in wanted} == wanted
    assert json.dumps(settings)[1:-1] in before[0]
    if name == "Heart" and settings is HEART:  # its order is a shuffle: the file holds it
        assert before[1] == r"printf '%s\n' a b > order.txt"
        assert str(args["order"]) == "order.txt"


def test_mini_plans_and_unlabeled_images_are_made_again(changed):
    benchmark = changed(plans="nnUNetPlansMini", **MINI)
    plan, mini, pool = data_commands.data_commands(benchmark, DatasetRecord(pool=4))[1:]
    assert plan == "nnUNetv2_plan_and_preprocess -d 901 -c 2d"
    args = parsed(mini)
    assert (args.plans, args.name, tuple(args.features)) == ("nnUNetPlans", "nnUNetPlansMini", (8, 80))
    assert (args.patch2d, args.batch2d) == ([192, 160], 8)
    assert parsed(pool).plans == "nnUNetPlansMini"


def test_own_folds_and_plans_of_few_labels_are_made_again(changed):
    content = {"data_identifier": "nnUNetPlansLabeled_2d", "semisam_planned_on": ["a1_frame01"]}
    benchmark = changed(plans="nnUNetPlansLabeled", **content)
    split = SplitRequest(("1", "3"), ("v1",), "(a[0-9])_", 4, ("a1  # first", "a2"))
    lines = data_commands.data_commands(benchmark, DatasetRecord(split=split))
    assert lines[-3] == r"printf '%s\n' a1 a2 > order.txt"
    args = parsed(lines[-2])
    assert (args.labeled, args.val, args.group, args.seed, args.replan) == (["1", "3"], ["v1"], "(a[0-9])_", 4, True)
    assert args.plans_name == "nnUNetPlansLabeled"
    assert lines[-1] == "nnUNetv2_preprocess -d 901 -plans_name nnUNetPlansLabeled -c 2d"


def test_what_is_not_on_record_is_said(benchmark_result):
    lines = data_commands.data_commands(benchmark_result, DatasetRecord(missing="nnUNet_raw is not set"))
    assert lines[0].startswith("# no converter's record of the dataset (nnUNet_raw is not set)")
    assert "no training has left its plans" in lines[1]


def test_an_unreleased_package_is_named_by_its_commit_not_installed_by_its_version(page):
    text = page.split('<section id="repeat">')[1]
    assert "nnunet-semisam==" not in text
    assert "# nnunet-semisam 0.1.0, commit c0ffee: install its source" in text
    assert "pip install torch==2.9.0\n" in text
    assert "export nnUNet_npp=2\n" in text
    assert text.index("export nnUNet_raw=") < text.index("nnunet-semisam benchmark")


def test_device_is_named_only_if_the_user_chose_one(changed):
    assert commands_section.benchmark_command(changed())[-4:-2] == ["--device", "cpu"]
    found = commands_section.benchmark_command(changed(lambda content: content["study"].update(device="auto")))
    assert "--device" not in found
