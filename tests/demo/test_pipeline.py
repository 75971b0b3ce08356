"""The demo's parts; `.ci/run` runs the whole."""

import argparse
import json
import sys

import numpy as np
import pytest
import SimpleITK
import yaml

from nnunet_semisam import cli
from nnunet_semisam.commands import demo as command
from nnunet_semisam.demo import pipeline, report
from nnunet_semisam.demo.plans import write_small_plans
from nnunet_semisam.demo.shell import Shell, executable
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.locks import folder_lock
from nnunet_semisam.training import trainer


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(path))


@pytest.mark.parametrize(("steps", "length"), [(400, (10, 40)), (25, (10, 3)), (4, (4, 1)), (1, (1, 1))])
def test_training_has_at_least_the_steps_that_were_asked_for(steps, length):
    assert pipeline.training_length(steps) == length
    epochs, iterations = length
    assert epochs * iterations >= steps


def test_settings_are_valid_for_the_trainers():
    overrides = yaml.safe_load(pipeline.settings_yaml(40))
    settings = trainer.SemiSupervisedTrainer.settings.replace(overrides, source="demo")
    assert (settings.run.num_epochs, settings.run.num_iterations_per_epoch) == (10, 4)
    assert (settings.block("gate").dice, settings.block("sam").refresh_epochs) == (0.2, 3)


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
    assert (two_d["data_identifier"], two_d["patch_size"], two_d["batch_size"]) == ("nnUNetPlans_2d", [96, 80], 4)
    kwargs = two_d["architecture"]["arch_kwargs"]
    assert kwargs["features_per_stage"] == [8, 16, 32, 48]
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


def test_a_failing_command_ends_the_demo_with_the_end_of_its_output(tmp_path):
    shell = Shell(tmp_path, {})
    with pytest.raises(UserError, match=r"(?s)status 2.*invalid choice: 'nonsense'.*01_nnunet-semisam\.log"):
        shell.run("nnunet-semisam", "nonsense")


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


def test_table_shows_percent_per_class_and_their_mean(tmp_path):
    means = {"1": {"Dice": 0.5}, "2": {"Dice": 0.25}, "3": {"Dice": 0.9}}
    (tmp_path / "summary.json").write_text(json.dumps({"mean": means}))
    dice = report.read_dice(tmp_path / "summary.json")
    assert dice["mean"] == pytest.approx((0.5 + 0.25 + 0.9) / 3)
    assert report.table({"A": dice}).splitlines() == [
        "Dice in %      RV     MYO      LV    mean",
        "A            50.0    25.0    90.0    55.0",
    ]


def test_pictures_show_each_source_of_masks(tmp_path):
    for case in ("a", "b"):
        save(tmp_path / "images" / f"{case}_0000.nii.gz", np.arange(75).reshape(3, 5, 5).astype(np.int16))
        save(tmp_path / "labels" / f"{case}.nii.gz", np.ones((3, 5, 5), np.uint8))
    pictures = report.write_pictures(
        tmp_path / "images", {"ground truth": tmp_path / "labels"}, tmp_path / "out", most=1
    )
    assert pictures == [tmp_path / "out" / "a.png"]
    assert pictures[0].read_bytes().startswith(b"\x89PNG")


def test_command_refuses_a_folder_that_is_not_acdc_before_it_writes(tmp_path):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    args = parser.parse_args(["--folder", str(tmp_path / "demo"), "--acdc", str(tmp_path)])
    with pytest.raises(UserError, match="must be the official folder"):
        command.run(args)
    assert not (tmp_path / "demo").exists()
    with pytest.raises(SystemExit):
        parser.parse_args(["--steps", "0"])
