"""The grid, what may be added to it, and what must never change under it."""

import json
import shutil
from dataclasses import replace

import pytest
import small_dataset

from nnunet_semisam.benchmark import equal_time, held_out, plan
from nnunet_semisam.benchmark.records import CaseSet, Equal, StudyFold
from nnunet_semisam.benchmark.runs import PerformRun
from nnunet_semisam.commands import _executors
from nnunet_semisam.data.datasets import open_dataset
from nnunet_semisam.errors import UserError
from nnunet_semisam.jobs import processes
from nnunet_semisam.splits.label_budgets import Grouping, recorded_pattern, write_grouping

BASELINE, OURS = "nnUNetTrainerSupervised", "nnUNetTrainerMeanTeacher"


def pinned(made, dataset=None):
    return held_out.pin(made, dataset or open_dataset("3", "nnUNetPlans"))


def check_leaks(made, dataset=None):
    return held_out.check_leaks(pinned(made, dataset), dataset or open_dataset("3", "nnUNetPlans"), 1)


def test_grid_is_complete_and_the_baseline_comes_first(study):
    runs = study("--seeds", "0", "4", "-c", "2d", "3d_fullres").runs()
    assert len({run.name for run in runs}) == len(runs) == 2 * 2 * 2 * 2
    assert [run.trainer for run in runs] == [BASELINE] * 8 + [OURS] * 8
    assert {(run.fold, run.budget) for run in runs} == {(0, 1), (1, 3)}  # patients, of two frames each
    assert runs[0].name == "nnUNetTrainerSupervised__2d__fold_0__seed_0"


def test_budgets_choose_folds(study):
    assert list(study("--labeled", "3").folds) == [1]
    assert list(study("--folds", "0").folds) == [0]
    with pytest.raises(UserError, match=r"No fold of .* has 3 labeled groups and is in --folds"):
        study("--labeled", "3", "--folds", "0")


def test_folds_of_a_cross_validation_are_one_budget(study, tmp_path):
    """Eleven patients in five folds: 8 are labeled in one fold and 9 in the others."""
    from nnunet_semisam.splits.folds import make_splits

    path = tmp_path / "preprocessed" / small_dataset.NAME / "splits_final.json"
    cases = [f"p{i}_frame{f:02d}" for i in range(11) for f in (1, 9)]
    splits = make_splits(cases)
    counts = sorted(len(split["train"]) // 2 for split in splits)
    assert counts == [8, 9, 9, 9, 9]
    path.write_text(json.dumps(splits))
    assert {fold.budget for fold in study().folds.values()} == {9}
    assert list(study("--labeled", "9").folds) == [0, 1, 2, 3, 4]
    hidden = [{**split, "train": split["train"][:-2], "unlabeled": split["train"][-2:]} for split in splits]
    path.write_text(json.dumps(hidden))  # other cases fold by fold: budgets of their own
    assert {fold.budget for fold in study().folds.values()} == {7, 8}


def test_groups_are_those_of_the_split_command(study, raw, tmp_path):
    folder = tmp_path / "preprocessed" / small_dataset.NAME
    (folder / "semisam_split.json").write_text(json.dumps({"group": "frame[0-9]+"}))
    (folder / "semisam_budgets.json").write_text("{}")
    made = study()
    assert made.group_of("p1_frame09") == "frame09"
    assert {fold.budget for fold in made.folds.values()} == {2}


def test_groups_are_those_of_the_trainings(study, tmp_path):
    folder = tmp_path / "preprocessed" / small_dataset.NAME
    split = folder / "semisam_split.json"
    split.write_text(json.dumps({"group": "frame[0-9]+"}))
    assert recorded_pattern(folder, None) == "frame[0-9]+", "what a training of a fold reads"
    assert study().group_of("p1_frame09") == "frame09"
    split.write_text(json.dumps({"group": 3}))
    with pytest.raises(UserError, match=r"semisam_split.json: the pattern must be a text or null, got 3"):
        study()


def test_groups_are_those_of_the_converter_where_no_split_was_made(study, raw):
    write_grouping(raw, Grouping("^[a-z]([0-9])"))
    assert study("--labeled", "1", "3").group_of("p1_frame09") == "1"
    write_grouping(raw, Grouping("frame[0-9]+"))
    assert [fold.budget for fold in study("--labeled", "2").folds.values()] == [2, 2]
    with pytest.raises(UserError, match=r"p0_frame01 is for train and imagesTr/p5_frame01 is for val .* of one group"):
        check_leaks(study("--cases", "val"))
    (raw / "semisam_groups.json").write_text("{")
    with pytest.raises(UserError, match=r"semisam_groups.json cannot be read"):
        study()


def test_grid_may_grow(study):
    first = plan.begin(study("--labeled", "1"))
    grown = plan.begin(study("--labeled", "3", "--seeds", "7", trainers=["nnUNetTrainerSemiSAM"]))
    assert (list(grown.folds), grown.seeds) == ([0, 1], [0, 7])
    assert set(grown.trainers) == {*first.trainers, "nnUNetTrainerSemiSAM"}
    assert plan.load_study(grown.folder) == grown


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": {"num_epochs": 7}}, r"another settings: .*num_epochs was 1000 and is 7"),
        ({"equal": Equal.TIME}, "another equal: it was 'steps' and is 'time'"),
        ({"plans_sha256": "0"}, "another plans_sha256"),
        ({"cases": CaseSet.VAL}, "another cases"),
        ({"folds": {0: StudyFold(1, "other")}}, r"Fold 0 .* has changed since"),
    ],
)
def test_what_makes_runs_comparable_may_not_change(study, change, message):
    made = plan.begin(study())
    before = (made.folder / plan.STUDY_FILE).read_text()
    with pytest.raises(UserError, match=message):
        plan.begin(replace(made, **change))
    assert (made.folder / plan.STUDY_FILE).read_text() == before


def copy_case(raw, source, part, name):
    kind, case = source
    ending = next(iter(raw.glob(f"images{kind}/{case}_0000.*"))).name.removeprefix(f"{case}_0000")
    (raw / f"images{part}").mkdir(exist_ok=True)
    shutil.copy(raw / f"images{kind}" / f"{case}_0000{ending}", raw / f"images{part}" / f"{name}_0000{ending}")
    if part != "Ul":
        shutil.copy(raw / f"labels{kind}" / f"{case}{ending}", raw / f"labels{part}" / f"{name}{ending}")


def test_held_out_cases_may_not_change(study, raw):
    made = plan.begin(pinned(study()))
    case = min(made.held_out["test"].digests)
    assert plan.begin(pinned(study("--seeds", "1"))).seeds == [0, 1]
    copy_case(raw, ("Tr", "p0_frame01"), "Ts", "t9_frame01")
    with pytest.raises(
        UserError, match=r"held-out cases \(test\) .* have changed since .*: new: t9_frame01. .*Restore"
    ):
        plan.begin(pinned(study("--seeds", "2")))
    (raw / "labelsTs" / "t9_frame01.nii.gz").unlink()
    copy_case(raw, ("Tr", "p0_frame01"), "Ts", case)
    with pytest.raises(UserError, match=f"other files: {case}"):
        plan.begin(pinned(study("--seeds", "2")))


def test_unlabeled_images_may_not_become_more(study, raw):
    plan.begin(pinned(study()))
    copy_case(raw, ("Tr", "p0_frame01"), "Ul", "u9")
    with pytest.raises(UserError, match=r"imagesUl of .* \(cases then: 1, now: 2\)"):
        plan.begin(pinned(study("--seeds", "2")))


def test_leaks_are_looked_for_again_where_other_images_came(study, raw):
    made = study("--cases", "val")
    found = check_leaks(made)
    held_out.record_leaks(plan.begin(pinned(made)), found)
    assert list(found) == [fold.sha256 for fold in made.folds.values()]
    assert check_leaks(made) == found
    copy_case(raw, ("Tr", "p5_frame01"), "Ul", "u9")
    with pytest.raises(UserError, match="hold the same image"):
        check_leaks(made)


def test_device_may_change(study):
    made = plan.begin(study())
    assert plan.begin(replace(made, device="cuda")).device == "cuda"


@pytest.mark.parametrize(("gpu", "found"), [(True, "cuda"), (False, "cpu")])
def test_device_is_found_out_where_a_run_trains(study, monkeypatch, gpu, found):
    """The machine that starts the benchmark may have no GPU where the cluster's nodes have one, or the reverse."""
    import torch

    made = study("--device", "auto")
    assert made.to_json()["device"] == "auto"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    commands = []
    monkeypatch.setattr(processes, "run_logged", lambda words, *_: commands.append(words) or 1)
    PerformRun(plan.begin(made), made.runs()[0])()
    equal_time.MeasureStep(made, OURS, "2d")()
    assert [words[-1] for words in commands] == [found, found]


def test_dry_run_writes_nothing(raw, tmp_path, capsys):
    from nnunet_semisam import cli

    words = ["benchmark", "-d", "3", "-c", "2d", "--trainers", OURS, "-o", str(tmp_path / "out"), "--dry-run"]
    assert cli.main([*words, "--device", "cpu"]) == 0
    assert not (tmp_path / "out").exists()
    text = capsys.readouterr().out
    assert "4 runs in" in text
    assert "nnUNetTrainerMeanTeacher__2d__fold_1__seed_0 (3 labeled): new" in text


def test_dry_run_says_what_a_start_would_refuse(raw, tmp_path, capsys):
    from nnunet_semisam import cli

    for label in (raw / "labelsTs").iterdir():
        label.unlink()
    words = ["benchmark", "-d", "3", "-c", "2d", "--trainers", OURS, "-o", str(tmp_path / "out"), "--dry-run"]
    assert cli.main([*words, "--device", "cpu"]) == 1
    text = capsys.readouterr().out
    assert "4 runs in" in text
    assert "It would not start. " in text
    assert "no test case with a label" in text
    assert not (tmp_path / "out").exists()


def test_dry_run_finds_another_benchmark_and_leaks_as_a_start_does(raw, tmp_path, capsys):
    from nnunet_semisam import cli

    out = tmp_path / "out"
    words = ["benchmark", "-d", "3", "-c", "2d", "--trainers", OURS, "-o", str(out), "--dry-run", "--device", "cpu"]
    (out / "round_1").mkdir(parents=True)
    (out / "self_training.json").write_text("{}")
    assert cli.main(words) == 1
    assert f"It would not start. {out}" in capsys.readouterr().out
    shutil.rmtree(out)
    test, trained = sorted((raw / "imagesTs").iterdir())[0], sorted((raw / "imagesTr").iterdir())[0]
    shutil.copy(trained, test)
    assert cli.main(words) == 1
    assert "hold the same image" in capsys.readouterr().out
    assert not out.exists()


def test_folds_that_a_converter_left_beside_the_images_are_found(raw, tmp_path, capsys):
    """Converted with several budgets and planned by nnU-Net, nothing else: no imagesUl, so no preprocess command."""
    from nnunet_semisam import cli

    (tmp_path / "preprocessed" / small_dataset.NAME / "splits_final.json").rename(raw / "splits_final.json")
    words = ["benchmark", "-d", "3", "-c", "2d", "--trainers", OURS, "-o", str(tmp_path / "out"), "--dry-run"]
    assert cli.main(words) == 0
    assert "4 runs in" in capsys.readouterr().out


def test_every_epoch_is_saved_and_the_length_is_the_same_for_all(study, tmp_path):
    assert study().settings == {
        "num_epochs": 1000,
        "num_iterations_per_epoch": 250,
        "num_val_iterations_per_epoch": 50,
        "initial_lr": 0.01,
        "save_every": 1,
    }
    (tmp_path / "s.yaml").write_text("num_epochs: 3\nsave_every: 9\nmean_teacher: {ema_decay: 0.9}\n")
    found = study("--settings", str(tmp_path / "s.yaml")).settings
    assert (found["num_epochs"], found["save_every"], found["mean_teacher"]) == (3, 9, {"ema_decay": 0.9})


def test_test_cases_are_for_all_folds_and_validation_cases_their_own(study, raw):
    dataset = open_dataset("3", "nnUNetPlans")
    (raw / "labelsTs" / "stray.nii.gz").touch()  # a label without an image is no case
    cases = held_out.gather(study(), dataset, 0)
    assert cases.cases == ["t1_frame01"]
    assert cases.label("t1_frame01", ".nii.gz").resolve() == raw / "labelsTs" / "t1_frame01.nii.gz"
    assert [path.name for path in cases.images.iterdir()] == ["t1_frame01_0000.nii.gz"]
    assert held_out.gather(study("--cases", "val"), dataset, 1).cases == small_dataset.SPLITS[1]["val"]


def test_listed_validation_cases_are_found_under_their_own_names(study, raw):
    """A list in dataset.json may call files anything; ``nnUNetv2_predict`` tells cases by the names of their files."""
    entries = {}
    for case in [case for case, part in small_dataset.CASES.items() if part == "Tr"]:
        image, label = raw / f"scan_of_{case}.nii.gz", raw / f"mask_of_{case}.nii.gz"
        (raw / "imagesTr" / f"{case}_0000.nii.gz").rename(image)
        (raw / "labelsTr" / f"{case}.nii.gz").rename(label)
        entries[case] = {"images": [image.name], "label": label.name}
    dataset = open_dataset("3", "nnUNetPlans")
    dataset.dataset_json["dataset"] = entries
    cases = held_out.gather(study("--cases", "val"), dataset, 0)
    names = sorted(path.name for path in cases.images.iterdir())
    assert names == ["p5_frame01_0000.nii.gz", "p5_frame09_0000.nii.gz"]
    assert cases.label("p5_frame09", ".nii.gz").resolve() == raw / "mask_of_p5_frame09.nii.gz"
    assert len(check_leaks(study("--cases", "val"), dataset)) == 2
    (raw / "mask_of_p5_frame09.nii.gz").unlink()
    with pytest.raises(UserError, match=r"lacks image or label of p5_frame09. Add the file"):
        held_out.held_out_cases(study("--cases", "val"), dataset, 0)


def test_links_follow_a_dataset_that_moved(study, raw, tmp_path):
    """The old place may still be there, with other content by now."""
    held_out.gather(study(), open_dataset("3", "nnUNetPlans"), 0)
    moved = tmp_path / "elsewhere" / raw.name
    shutil.copytree(raw, moved)
    cases = held_out.gather(study(), replace(open_dataset("3", "nnUNetPlans"), raw=moved), 0)
    links = [*cases.images.iterdir(), cases.label("t1_frame01", ".nii.gz")]
    assert [link.resolve().parents[1] for link in links] == [moved, moved]


def test_one_test_set_is_chosen_of_several(study, raw):
    small_dataset.write_image(raw / "imagesTs" / "t2_0000.nii.gz", 99)
    small_dataset.write_image(raw / "labelsTs" / "t2.nii.gz", 99, most=2)
    (raw / "semisam_test_sets.json").write_text(json.dumps({"old": ["t1_frame01"], "new": ["t2"]}))
    dataset = open_dataset("3", "nnUNetPlans")
    assert held_out.held_out_cases(study("--test-set", "new"), dataset, 0) == ["t2"]


def test_slower_trainers_get_fewer_epochs_for_equal_time(study):
    made = plan.begin(study("--equal", "time"))
    runs = {run.trainer: run for run in made.runs() if run.fold == 0}
    with pytest.raises(UserError, match="could not be measured"):
        equal_time.epochs_of(made, runs[OURS])
    for trainer, seconds in ((BASELINE, 0.2), (OURS, 0.5)):
        task = equal_time.MeasureStep(made, trainer, "2d")
        task.folder.mkdir(parents=True)
        (task.folder / "step_time.json").write_text(json.dumps({"seconds_per_step": seconds}))
        assert task() == "done"  # measured before
    assert equal_time.epochs_of(made, runs[BASELINE]) == 1000
    assert equal_time.epochs_of(made, runs[OURS]) == 400


def test_slurm_parameters_keep_their_type():
    assert _executors.slurm_options(["timeout_min=60", "slurm_partition=gpu"]) == {
        "timeout_min": 60,
        "slurm_partition": "gpu",
    }


def test_all_stands_for_every_trainer_of_the_package_once():
    from pathlib import Path

    from nnunet_semisam.benchmark.trainers import named

    files = {path.stem for path in (Path(__file__).parents[2] / "trainers").glob("nnUNetTrainer*.py")}
    rows = named(["nnUNetTrainerSupervised", "all", "SelfTraining1_nnUNetTrainerSemiSAM"])
    assert rows[0] == "nnUNetTrainerSupervised"
    assert rows[-1] == "SelfTraining1_nnUNetTrainerSemiSAM"
    assert set(rows[:-1]) == files
    assert len(rows) == len(set(rows))
