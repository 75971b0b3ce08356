import argparse
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from nnunet_semisam.commands import convert
from nnunet_semisam.errors import UserError


@pytest.fixture
def database(tmp_path):
    """Patient 099 (labeled), 038 (unlabeled) and 028 (validation), with random voxels."""
    random = np.random.default_rng(0)
    for number in ("099", "038", "028"):
        folder = tmp_path / "database" / "training" / f"patient{number}"
        folder.mkdir(parents=True)
        (folder / "Info.cfg").write_text("ED: 1\nES: 9\n")
        for frame in ("01", "09"):
            for ending, most in (("", 1000), ("_gt", 4)):
                image = sitk.GetImageFromArray(random.integers(0, most, (3, 10, 12)).astype(np.int16))
                sitk.WriteImage(image, str(folder / f"patient{number}_frame{frame}{ending}.nii.gz"))
    return tmp_path / "database"


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run ``nnunet-semisam convert`` with some words."""
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    monkeypatch.delenv("nnUNet_results", raising=False)

    def run(*words: str) -> None:
        parser = argparse.ArgumentParser(prog="nnunet-semisam convert")
        convert.add_arguments(parser)
        convert.run(parser.parse_args(words))

    return run


def test_report_counts_cases_and_names_the_next_commands(run, database, capsys, monkeypatch):
    monkeypatch.setattr("nnunet_semisam.data.next_steps.device_option", lambda: " -device cpu")
    run("acdc", "-i", str(database), "-d", "27", "--labeled", "1")
    text = capsys.readouterr().out
    for line in (
        "Dataset027_ACDC was made:",
        "  imagesTr: 4 cases with labels",
        "  imagesUl: 2 cases without labels",
        "  imagesTs: 0 cases for testing",
        "  fold 0: 2 training cases (labeled patients: 1), 2 validation cases",
        "  nnUNetv2_plan_and_preprocess -d 27 -c 2d 3d_fullres",
        "  nnunet-semisam preprocess -d 27 -c 2d 3d_fullres",
        "  nnUNetv2_train 27 2d 0 -tr nnUNetTrainerSemiSAM -p nnUNetPlansMini -device cpu",
    ):
        assert f"{line}\n" in text
    assert "  nnunet-semisam plan-mini -d 27   # no GPU was found" in text
    assert "note: 20 of the 20 test patients of ssl4mis are not there: patient011, " in text


def test_second_run_says_that_all_is_there(run, database, capsys):
    for _ in range(2):
        run("acdc", "-i", str(database), "--labeled", "1")
    assert "is already there, made from the same data with the same settings; nothing was written" in (
        capsys.readouterr().out
    )


def test_several_budgets_need_no_preprocessing_of_ours(run, database, capsys):
    run("acdc", "-i", str(database), "--labeled", "1", "2")
    text = capsys.readouterr().out
    assert "fold 0: 2 training cases (labeled patients: 1), 2 validation cases, 2 hide their labels" in text
    assert "nnunet-semisam preprocess" not in text
    assert "nnUNetTrainerSemiSAM" in text


def test_fully_labeled_dataset_is_sent_to_the_supervised_trainer(run, database, capsys):
    run("acdc", "-i", str(database), "--labeled", "all")
    text = capsys.readouterr().out
    assert "nnUNetTrainerSupervised" in text
    assert "nnUNetTrainerSemiSAM" not in text


def test_missing_nnunet_raw_says_what_to_export(run, database, monkeypatch):
    monkeypatch.delenv("nnUNet_raw")
    with pytest.raises(UserError, match=r"nnUNet_raw is not set.*export nnUNet_raw="):
        run("acdc", "-i", str(database), "--labeled", "1")


def test_no_processes_at_all_are_refused(run, database):
    with pytest.raises(UserError, match="-np must be at least 1, got 0"):
        run("acdc", "-i", str(database), "--labeled", "1", "-np", "0")


def test_unknown_data_set_lists_the_known_ones(run, capsys):
    with pytest.raises(SystemExit):
        run("acds", "-i", ".", "--labeled", "1")
    assert "acdc" in capsys.readouterr().err


def test_interrupted_script_says_that_nothing_was_written(database, capsys, monkeypatch, tmp_path):
    class Interrupted(convert.load_package().AcdcConverter):
        def plan(self, args):
            raise KeyboardInterrupt

    assert convert.load_package().run_script(Interrupted(), ["-i", str(database), "--labeled", "1"]) == 130
    assert "nothing was written" in capsys.readouterr().err


def test_help_needs_no_heavy_library():
    code = (
        "import argparse, sys\n"
        "from nnunet_semisam.commands import convert\n"
        "convert.add_arguments(argparse.ArgumentParser())\n"
        "print([name for name in ('numpy', 'torch', 'SimpleITK', 'nnunetv2', 'tqdm') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr
