"""The demo's parts; `.ci/run` runs the whole."""

import argparse
import json
import sys
import threading
import time
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import SimpleITK
import yaml

from nnunet_semisam import cli
from nnunet_semisam.commands import demo as command
from nnunet_semisam.demo import pipeline, report, schedule
from nnunet_semisam.demo.plans import write_small_plans
from nnunet_semisam.demo.shell import Shell, executable
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.locks import folder_lock
from nnunet_semisam.jobs import processes
from nnunet_semisam.pseudo_labels import round_log
from nnunet_semisam.training import trainer
from nnunet_semisam.training.training_log import TrainingLog


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(path))


@pytest.mark.parametrize(("steps", "length"), [(400, (5, 80)), (23, (5, 5)), (4, (4, 1)), (1, (1, 1))])
def test_training_has_at_least_the_steps_that_were_asked_for(steps, length):
    assert schedule.training_length(steps) == length
    assert schedule.steps_of(*length) >= steps


def test_what_follows_the_common_start_has_half_of_its_steps():
    assert [schedule.continued_steps(steps) for steps in (1500, 100, 1)] == [750, 50, 1]


@pytest.mark.parametrize("steps", [schedule.DEFAULT_STEPS, 40])
def test_settings_are_valid_for_the_trainers(steps):
    known = trainer.SemiSupervisedTrainer.settings
    dice = known.block("gate").dice if steps == schedule.DEFAULT_STEPS else 0.0
    start = known.replace(yaml.safe_load(schedule.start_yaml(steps)), source="demo")
    more = known.replace(yaml.safe_load(schedule.continued_yaml(steps, Path("a: network.pth"))), source="demo")
    assert start.run.num_epochs * start.run.num_iterations_per_epoch == steps
    assert more.run.num_epochs * more.run.num_iterations_per_epoch >= steps / 2
    assert (more.block("gate").dice, more.block("sam").refresh_epochs) == (dice, 1)
    assert more.run.initial_weights == "a: network.pth"
    assert start.block("gate").dice == known.block("gate").dice


def test_plans_shrink_and_keep_the_preprocessed_data(tmp_path):
    network = {
        "n_stages": 6,
        "features_per_stage": [32, 64, 128, 256, 512, 512],
        "strides": [[1, 1]] + [[2, 2]] * 5,
        "kernel_sizes": [[3, 3]] * 6,
        "n_conv_per_stage": [2] * 6,
        "n_conv_per_stage_decoder": [2] * 5,
    }
    configuration = {"data_identifier": "nnUNetPlans_2d", "patch_size": [256, 80], "batch_size": 49}
    configuration["architecture"] = {"arch_kwargs": network}
    plans = {"plans_name": "nnUNetPlans", "configurations": {"2d": configuration, "3d_fullres": {}}}
    (tmp_path / "nnUNetPlans.json").write_text(json.dumps(plans))

    small = json.loads(write_small_plans(tmp_path).read_text())

    assert small["plans_name"] == "nnUNetPlansDemo"
    assert list(small["configurations"]) == ["2d"]
    two_d = small["configurations"]["2d"]
    assert (two_d["data_identifier"], two_d["patch_size"], two_d["batch_size"]) == ("nnUNetPlans_2d", [64, 64], 8)
    kwargs = two_d["architecture"]["arch_kwargs"]
    assert kwargs["features_per_stage"] == [8, 16, 32, 64]
    assert [len(kwargs[key]) for key in ("strides", "kernel_sizes", "n_conv_per_stage")] == [4, 4, 4]
    assert len(kwargs["n_conv_per_stage_decoder"]) == 3
    assert json.loads((tmp_path / "nnUNetPlans.json").read_text()) == plans


def test_a_folder_with_other_things_is_never_deleted(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="not a folder of an earlier demo"):
        pipeline.claim_folder(tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").exists()


def test_an_earlier_demo_is_deleted_on_request_only(tmp_path):
    folder = pipeline.claim_folder(tmp_path / "demo", overwrite=False)
    (folder / "table.txt").touch()
    with pytest.raises(UserError, match="Add --overwrite"):
        pipeline.claim_folder(tmp_path / "demo", overwrite=False)
    pipeline.claim_folder(tmp_path / "demo", overwrite=True)
    assert not (folder / "table.txt").exists()


def test_what_is_not_the_demos_is_never_deleted(tmp_path):
    folder = pipeline.claim_folder(tmp_path / "demo", overwrite=False)
    (folder / "table.txt").touch()
    (folder / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"what is not the demo's: thesis\.tex\. Nothing was deleted"):
        pipeline.claim_folder(tmp_path / "demo", overwrite=True)
    assert {path.name for path in folder.iterdir()} == {pipeline.MARKER, "table.txt", "thesis.tex"}


@pytest.mark.parametrize(("folder", "acdc"), [("acdc/demo", "acdc"), ("acdc", "acdc"), ("demo", "demo/database/acdc")])
def test_real_data_and_the_demo_never_lie_in_each_other(tmp_path, capsys, folder, acdc):
    source = tmp_path / acdc / "training" / "patient001"
    source.mkdir(parents=True)
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    if folder == "demo":
        (tmp_path / "demo" / pipeline.MARKER).touch()
    assert cli.main(["demo", "--acdc", str(tmp_path / acdc), "--folder", str(tmp_path / folder), "--overwrite"]) == 2
    assert "must not lie in each other" in capsys.readouterr().err
    assert source.is_dir()


def test_a_second_demo_in_the_same_folder_does_not_touch_the_first(tmp_path, capsys):
    folder = pipeline.claim_folder(tmp_path / "demo", overwrite=False)
    (folder / "logs").mkdir()
    with folder_lock(folder, wait=False):
        assert cli.main(["demo", "--folder", str(folder), "--overwrite"]) == 2
    assert "Another demo runs" in capsys.readouterr().err
    assert (folder / "logs").is_dir()


def test_commands_are_shown_run_and_logged(tmp_path, capfd):
    shell = Shell(tmp_path, {"nnUNet_thing": "a b"})
    shell.run("nnunet-semisam", "--version")
    shown = capfd.readouterr().out
    assert "$ export nnUNet_thing='a b'\n$ nnunet-semisam --version\n" in shown
    (log,) = (tmp_path / "logs").iterdir()
    assert log.name == "01_nnunet-semisam.log"
    assert log.read_text().count(".") == 2


def test_a_failing_command_ends_the_demo_with_the_end_of_its_output(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_stopping", threading.Event())
    shell = Shell(tmp_path, {})
    with pytest.raises(UserError, match=r"(?s)status 2.*invalid choice: 'nonsense'.*01_nnunet-semisam\.log"):
        shell.run("nnunet-semisam", "nonsense")


def test_commands_side_by_side_are_shown_as_a_user_would_type_them(tmp_path, capfd):
    Shell(tmp_path, {}).run_together(("nnunet-semisam", "--version"), ("nnunet-semisam", "--help"))
    lines = capfd.readouterr().out.splitlines()
    assert lines[:3] == ["$ nnunet-semisam --version &", "$ nnunet-semisam --help &", "$ wait"]
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == [
        "01_nnunet-semisam.log",
        "02_nnunet-semisam.log",
    ]


def test_of_two_commands_side_by_side_a_failing_one_ends_the_other(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_stopping", threading.Event())
    endless = ["python", "-c", "import time; time.sleep(600)"]
    start = time.monotonic()
    with pytest.raises(UserError, match="nnunet-semisam nonsense ended with status 2"):
        Shell(tmp_path, {}).run_together(endless, ("nnunet-semisam", "nonsense"))
    assert time.monotonic() - start < 300


def test_programs_come_from_this_environment_or_are_reported(tmp_path, monkeypatch):
    bare, python = ["nnunet-semisam", "doctor"], tmp_path / "python"
    monkeypatch.setattr(sys, "executable", str(python))
    assert executable(bare) == [str(python), "-m", "nnunet_semisam.cli", "doctor"]  # a checkout, nothing installed
    script = tmp_path / "nnunet-semisam"
    script.touch(mode=0o755)
    assert executable(bare) == [str(script), "doctor"]
    with pytest.raises(UserError, match="no program nnUNetv2_nonsense"):
        executable(["nnUNetv2_nonsense"])


@pytest.mark.parametrize(("test_cases", "expected"), [(["t1"], ["t1"]), ([], ["v1", "v2"])])
def test_held_out_are_the_test_cases_or_else_the_validation_cases(tmp_path, test_cases, expected):
    raw = tmp_path / "nnUNet_raw" / pipeline.DATASET
    for part, names in (("Tr", ["v1", "v2", "x"]), ("Ts", test_cases)):
        for name in names:
            save(raw / f"images{part}" / f"{name}_0000.nii.gz", np.zeros((1, 2, 2), np.int16))
            save(raw / f"labels{part}" / f"{name}.nii.gz", np.zeros((1, 2, 2), np.uint8))
    (raw / "splits_final.json").write_text(json.dumps([{"train": ["x"], "val": ["v1", "v2"]}]))
    images, labels = pipeline.Demo(tmp_path, None, 1, "cpu").collect_held_out()
    assert sorted(path.name for path in images.iterdir()) == [f"{name}_0000.nii.gz" for name in expected]
    assert sorted(path.name for path in labels.iterdir()) == [f"{name}.nii.gz" for name in expected]


def write_summary(path, cases):
    """A summary.json of nnU-Net: case -> Dice of RV, MYO and LV."""
    rows = [
        {"prediction_file": f"/x/{case}.nii.gz", "metrics": {str(k + 1): {"Dice": d} for k, d in enumerate(dice)}}
        for case, dice in cases.items()
    ]
    means = {str(k + 1): {"Dice": float(np.nanmean([dice[k] for dice in cases.values()]))} for k in range(3)}
    path.write_text(json.dumps({"mean": means, "metric_per_case": rows}))  # NaN, as nnU-Net writes it
    return report.read_scores(path)


def test_table_shows_percent_per_class_and_their_mean(tmp_path):
    scores = write_summary(tmp_path / "summary.json", {"a": (0.5, 0.25, 0.9)})
    assert scores.mean == pytest.approx((0.5 + 0.25 + 0.9) / 3)
    assert report.table({"A": scores}).splitlines() == [
        "Dice in %      RV     MYO      LV    mean",
        "A            50.0    25.0    90.0    55.0",
    ]


def test_a_class_that_a_case_does_not_have_does_not_count_there(tmp_path):
    scores = write_summary(tmp_path / "summary.json", {"a": (0.5, 0.3, float("nan")), "b": (0.7, 0.5, 0.6)})
    assert scores.by_case == {"a": pytest.approx(0.4), "b": pytest.approx(0.6)}


def test_a_loss_is_told_as_a_loss(tmp_path):
    plain = write_summary(tmp_path / "a.json", {"a": (0.5, 0.5, 0.5), "b": (0.5, 0.5, 0.5)})
    worse = write_summary(tmp_path / "b.json", {"a": (0.4, 0.4, 0.4), "b": (0.5, 0.5, 0.5)})
    assert report.verdict(plain, worse) == "With unlabeled cases: -5.0 Dice on average, higher in 0 of 2 cases."


@pytest.mark.parametrize("steps", [pipeline.DEFAULT_STEPS - 1, pipeline.DEFAULT_STEPS])
def test_a_demo_that_is_too_short_to_learn_gives_no_verdict(tmp_path, steps):
    plain = write_summary(tmp_path / "a.json", {"a": (0.0, 0.0, 0.0)})
    ours = write_summary(tmp_path / "b.json", {"a": (0.0, 0.0, 0.6)})
    text = pipeline.Demo(tmp_path, None, steps, "cpu").worth({pipeline.BASELINE: plain, pipeline.SEMISAM: ours})
    assert ("its numbers say nothing" in text) == (steps < pipeline.DEFAULT_STEPS)
    assert ("+20.0 Dice" in text) == (steps == pipeline.DEFAULT_STEPS)


def test_the_picture_shows_each_source_of_masks_for_each_case(tmp_path):
    for case in ("a", "b"):
        save(tmp_path / "images" / f"{case}_0000.nii.gz", np.arange(300).reshape(3, 10, 10).astype(np.int16))
        mask = np.zeros((3, 10, 10), np.uint8)
        mask[:, 2:8, 2:8] = 1
        save(tmp_path / "labels" / f"{case}.nii.gz", mask)
    scores = write_summary(tmp_path / "summary.json", {"a": (0.5, 0.5, 0.5), "b": (0.5, 0.5, 0.5)})
    masks = {"ground truth": tmp_path / "labels", "network": tmp_path / "labels"}
    sizes = []
    for cases in (["a"], ["a", "b"]):
        target = tmp_path / "out" / f"{len(cases)}.png"
        report.write_picture(tmp_path / "images", masks, {"network": scores}, cases, target)
        sizes.append(matplotlib.image.imread(target).shape)
    assert sizes[1][0] > 1.7 * sizes[0][0]  # a row per case
    assert sizes[1][1] == sizes[0][1]


@pytest.mark.parametrize(
    ("weights", "rounds", "expected"),
    [
        ((0.0, 0.0, 0.1), 1, "Unlabeled cases were used in 1 of 3 epochs, with 1 rounds of pseudo-labels."),
        ((0.0, 0.0), 0, "No unlabeled case was used"),
    ],
)
def test_the_demo_says_whether_unlabeled_cases_were_used(tmp_path, weights, rounds, expected):
    log = TrainingLog()
    for epoch, weight in enumerate(weights):
        log.add(epoch, {"unlabeled_weight": weight})
    log.write(tmp_path)
    for number in range(rounds):
        round_log.append(tmp_path, round_log.RoundRecord(number, 1, 4, True, 1.0))
    assert pipeline.use_of_unlabeled(tmp_path).startswith(expected)


def test_command_refuses_a_folder_that_is_not_acdc_before_it_writes(tmp_path):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    args = parser.parse_args(["--folder", str(tmp_path / "demo"), "--acdc", str(tmp_path)])
    with pytest.raises(UserError, match="must be the official folder"):
        command.run(args)
    assert not (tmp_path / "demo").exists()
    with pytest.raises(SystemExit):
        parser.parse_args(["--steps", "0"])
