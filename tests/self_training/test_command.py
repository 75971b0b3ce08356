"""``nnunet-semisam self-train``: options, what is shown, what is refused before anything runs."""

import json

import pytest
import tiny_nnunet
import yaml

from nnunet_semisam import cli
from nnunet_semisam.self_training.plan import load_plan

SHORT = {"num_epochs": 1, "num_iterations_per_epoch": 2, "num_val_iterations_per_epoch": 1, "seed": 3}


@pytest.fixture
def call(tiny_dataset, tmp_path):
    """Return a function that runs the command on the tiny dataset; it gives the exit status."""
    (tmp_path / "length.yaml").write_text(yaml.safe_dump(SHORT))
    first = ["self-train", "-d", str(tiny_nnunet.DATASET_ID), "-c", "2d", "-o", str(tmp_path / "out")]
    first += ["--settings", str(tmp_path / "length.yaml"), "--device", "cpu", "-np", "1"]
    supervised = ["--trainer", "nnUNetTrainerSupervised"]

    def called(*words: str, trainer: bool = True) -> int:
        return cli.main([*first, *(supervised if trainer else []), *words])

    return called


def test_one_command_does_everything_and_tells_how_to_predict(call, commands, tmp_path, capsys):
    assert call("--threshold", "0.4", "--total-epochs", "3") == 0
    text = capsys.readouterr().out
    assert "round 1 fold 0: train: done" in text
    assert "5 of 5 cases of the pool" in text
    assert "nnUNetv2_predict -d Dataset901_Tiny -c 2d -tr nnUNetTrainerSupervised -p nnUNetPlans -f 0" in text
    lengths = [json.loads((tmp_path / "out" / f"round_{i}/fold_0/trained.json").read_text()) for i in (0, 1)]
    assert [length["settings"]["num_epochs"] for length in lengths] == [1, 2]
    before = len(commands.calls)
    assert call("--threshold", "0.4", "--total-epochs", "3") == 0
    assert len(commands.calls) == before


def test_a_task_that_fails_is_named_with_its_reason(call, commands, capsys, tiny_dataset):
    image = tiny_dataset / "raw" / tiny_nnunet.DATASET / "imagesTr" / "case4_0000.nii.gz"
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    assert call("--threshold", "0.4") == 1
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.startswith("round 1 fold 0: label part 1 of 1: ")
    assert "case4_0000.nii.gz" in last
    assert "error.json)" in last
    image.write_bytes(whole)
    assert call("--threshold", "0.4") == 0


def test_a_dry_run_shows_the_tasks_and_writes_nothing(call, tmp_path, capsys):
    assert call("--rounds", "2", "--dry-run") == 0
    text = capsys.readouterr().out
    assert "2 labeled, 5 in the pool, 1 to validate" in text
    assert "round 2 fold 0: train: new" in text
    assert not (tmp_path / "out").exists()


def test_a_dry_run_says_whether_a_sam_takes_part_in_labels(call, capsys):
    assert call("--dry-run") == 0
    assert "SAM" not in capsys.readouterr().out, "the first trainer uses none"
    assert call("--dry-run", "--no-sam", trainer=False) == 0
    assert "SAM:" not in capsys.readouterr().out
    for words, trainer in ((["--sam"], True), ([], False)):  # the user, and the default trainer
        assert call("--dry-run", "--label-jobs", "2", *words, trainer=trainer) == 0
        text = capsys.readouterr().out
        assert "lets them: nano" in text
        assert text.count("calibrate SAM: new") == 1, "however many parts the pool has"


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"mirror": False}, "--no-sam"), ({"models": ["vit_b"]}, "vit_b")],
)
def test_a_sam_that_cannot_be_asked_is_refused_before_anything_is_written(
    call, tmp_path, monkeypatch, capsys, settings, message
):
    monkeypatch.delenv("nnUNet_sam", raising=False)
    (tmp_path / "length.yaml").write_text(yaml.safe_dump({**SHORT, "sam": settings}))
    assert call("--sam") == 2, "also where the first trainer uses none"
    assert message in capsys.readouterr().err
    assert load_plan(tmp_path / "out") is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rounds", "0"], "--rounds must be at least 1"),
        (["--rounds", "101"], "--rounds must be at most 100"),
        (["--threshold", "1.5"], "--threshold must be between 0 and 1"),
        (["--threshold", "nan"], "--threshold must be between 0 and 1"),
        (["--select", "0"], "--select 0.0"),
        (["--select", "0.5", "1"], "1 rounds"),
        (["--rounds", "2", "--total-epochs", "2"], "--total-epochs must be at least 3"),
        (["-f", "0", "0"], "-f names a fold twice"),
        (["-f", "9"], "no fold"),
        (["--final-trainer", "nnUNetTrainerNobody"], "no such trainer"),
        (["--final-trainer", "nnUNetTrainerMeanTeacher"], "--select 1 all 5 of the pool"),
        (["--final-trainer", "nnUNetTrainerMeanTeacher", "--select", "0.95"], "--select 0.95 all 5 of the pool"),
        (["--executor", "slurm", "--slurm", "timeout_min=5", "no_such_option=²"], "no_such_option"),
        (["--label-jobs", "0"], "--label-jobs must be at least 1"),
        (["--executor", "slurm"], "timeout_min"),
        (["--gpus", "0"], "--executor local"),
        (["-c", "3d_lowres"], "no configuration"),
    ],
)
@pytest.mark.usefixtures("search_here")
def test_what_cannot_be_done_is_refused_before_anything_is_written(call, tmp_path, capsys, words, message):
    assert call(*words) == 2
    assert message in capsys.readouterr().err
    assert load_plan(tmp_path / "out") is None


def test_settings_that_an_option_gives_are_refused(call, tmp_path, capsys):
    (tmp_path / "length.yaml").write_text("method: mean_teacher\n")
    assert call() == 2
    assert "--trainer" in capsys.readouterr().err


def test_a_folder_inside_the_data_is_refused(call, tiny_dataset, capsys):
    assert call("-o", str(tiny_dataset / "raw" / "out")) == 2
    assert "nnUNet_raw" in capsys.readouterr().err
