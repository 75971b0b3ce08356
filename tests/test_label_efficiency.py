"""The label-efficiency protocols: which trials there are, that each goes on where it stopped, and how arms compare."""

import itertools
import json
import signal
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch
import yaml

from nnunet_semisam.errors import UserError
from nnunet_semisam.generalists.base import CasePrediction
from nnunet_semisam.jobs.base import Status
from nnunet_semisam.jobs.processes import CommandFailedError
from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels.round_log import ClassRecord
from nnunet_semisam.runs.model_run import ModelRun
from nnunet_semisam.self_training import tasks
from nnunet_semisam.self_training.plan import FoldCases, SelfTraining
from nnunet_semisam.splits.label_budgets import Grouping

CHECKOUT = Path(__file__).parents[1]
sys.path.append(str(CHECKOUT))  # at the end: an installed package comes before that of the checkout

from benchmarks.label_efficiency import analyse, paired, queue, trial  # noqa: E402
from benchmarks.label_efficiency.arms import ARMS_FILE, Arm, choose_arms, read_arms  # noqa: E402
from benchmarks.label_efficiency.decisions import Decision, rows  # noqa: E402
from benchmarks.label_efficiency.draws import Draws, make_draws  # noqa: E402
from benchmarks.label_efficiency.prepare import PREPARED_FILE, Prepare  # noqa: E402
from benchmarks.label_efficiency.protocols import ACDC, ACDC_UNSEEN, FIELD, HIPPOCAMPUS, DataSet, Protocol  # noqa: E402
from benchmarks.label_efficiency.results import RESULTS_FILE, TrialResult, collect, read_results  # noqa: E402

ACDC_MEMBERS = {
    f"patient{number:03d}": [f"patient{number:03d}_frame01", f"patient{number:03d}_frame10"] for number in range(1, 101)
}
FIELD_VAL = [f"patient{number:03d}" for number in (2, 19, 28, 30, 39, 45, 78, 82, 85, 87)]
TINY = DataSet("tiny", 901, "TINY", ("nnunet",), "2d", budgets=(1, 2), num_judged=2)
PROTOCOL = Protocol("tiny", TINY, steps=200, budgets=(1,), settings={"initial_lr": 0.003})
ARM = Arm("baseline", "nnUNetTrainerSupervised")


def plan(tmp_path, *words):
    return queue.plan(queue.build_parser().parse_args(["--out", str(tmp_path), *words]))


# ----------------------------------------------------------------------------------------------------------- arms


def test_every_arm_of_the_file_has_a_trainer_that_takes_its_settings():
    names = list(read_arms(ARMS_FILE))
    assert {"baseline", "default", "meanteacher", "fixmatch", "cps", "bcp"} <= {*names}
    assert [arm.name for arm in choose_arms(names)] == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {trainer: nnUNetTrainerCPS, settings: {seed: 3}}", "sets seed"),
        ("a: {trainer: nnUNetTrainerCPS, settings: {cps: {wieght: 1}}}", "wieght"),
        ("a: {trainer: nnUNetTrainerNone}", "no such trainer"),
        ("a: {trainer: nnUNetTrainerCPS, setings: {}}", "nothing else"),
        ("start: {trainer: nnUNetTrainerCPS}", "must have a name"),
        ("a/b: {trainer: nnUNetTrainerCPS}", "must have a name"),
        ("b: {trainer: nnUNetTrainerCPS}", "has b"),
        ("a: {trainer: nnUNetTrainerSemiSAM, adapted: [nanno]}", "nanno"),
        ("a: {trainer: nnUNetTrainerSemiSAM, adapted: nano}", "adapted is 'nano'"),
        ("a: {trainer: nnUNetTrainerSemiSAM, adapted: [nano], self_training: {rounds: 1}}", "both"),
    ],
)
@pytest.mark.usefixtures("search_here")
def test_an_arm_that_cannot_be_trained_is_refused_before_anything_runs(tmp_path, text, message):
    path = tmp_path / "arms.yaml"
    path.write_text(text)
    name = text.split(":")[0] if not text.startswith("b:") else "a"
    with pytest.raises(UserError, match=message):
        choose_arms([name], path=path)


# ---------------------------------------------------------------------------------------------------------- draws


@pytest.fixture(scope="module")
def acdc():
    rest = [name for name in ACDC_MEMBERS if name not in FIELD_VAL]
    first = [*ACDC.never_labeled, *(name for name in rest if name not in ACDC.never_labeled)]
    return make_draws(ACDC, ACDC_MEMBERS, Grouping(order=[*first, *FIELD_VAL], val=FIELD_VAL))


def test_judged_patients_are_neither_labeled_nor_in_the_pool_of_any_draw(acdc):
    for draw in acdc.draws:
        split = acdc.splits[draw.fold]
        assert {*split["train"], *split["unlabeled"]}.isdisjoint(acdc.judged[draw.judged_set])
        assert len({acdc.patient[case] for case in acdc.judged[draw.judged_set]}) == (
            10 if draw.judged_set == FIELD else 30
        )


def test_development_draws_use_no_patient_that_final_tables_label_or_judge(acdc):
    development = [draw for draw in acdc.draws if draw.name != FIELD]
    used = {case.split("_")[0] for draw in development for cases in acdc.splits[draw.fold].values() for case in cases}
    assert used.isdisjoint({*FIELD_VAL, "patient076"})
    assert {name for draw in development for name in draw.labeled}.isdisjoint(ACDC.never_labeled)
    assert used >= {*ACDC.never_labeled}  # but their images are in the pool


def test_no_choice_was_made_on_a_patient_that_is_labeled_or_judged_among_the_unseen_ones(acdc):
    unseen = make_draws(ACDC_UNSEEN, ACDC_MEMBERS, Grouping(val=FIELD_VAL))
    chosen_on = {acdc.patient[case] for case in acdc.judged["development"]}
    for number in range(4):
        chosen_on |= {*acdc.find(str(number), 3).labeled}
    judged = {unseen.patient[case] for case in unseen.judged["development"]}
    assert len(judged) == 12
    assert (judged | {name for draw in unseen.draws for name in draw.labeled}).isdisjoint(chosen_on)
    for draw in unseen.draws:
        split = unseen.splits[draw.fold]
        assert {*split["train"], *split["unlabeled"]}.isdisjoint(unseen.judged["development"])
        assert len(split["train"]) + len(split["unlabeled"]) == 2 * (100 - 11 - 12)


def test_a_larger_budget_keeps_the_labeled_patients_of_a_smaller_one_and_draws_differ(acdc):
    for name in acdc.draws[0].name, "1", FIELD:
        one, three, seven = (acdc.find(name, budget).labeled for budget in (1, 3, 7))
        assert one == three[:1] == seven[:1]
        assert three == seven[:3]
    assert len({tuple(acdc.find(str(number), 3).labeled) for number in range(10)}) == 10
    assert acdc.find(FIELD, 3).labeled == ["patient099", "patient038", "patient050"]


def test_folds_are_where_trials_look_for_them(acdc):
    assert [draw.fold for draw in acdc.draws] == list(range(len(acdc.splits)))
    assert all(ACDC.fold(draw.name, draw.budget) == draw.fold for draw in acdc.draws)
    assert all(len(acdc.splits[draw.fold]["train"]) == 2 * draw.budget for draw in acdc.draws)


def test_a_data_set_without_published_order_has_development_draws_only():
    members = {f"hippocampus_{number:03d}": [f"hippocampus_{number:03d}"] for number in range(200)}
    draws = make_draws(HIPPOCAMPUS, members, Grouping())
    assert len(draws.splits) == 40
    assert len(draws.judged["development"]) == 60
    assert len(draws.splits[3]["train"]) == 8
    assert len(draws.splits[3]["unlabeled"]) == 132


# ----------------------------------------------------------------------------------------------- the plan of trials


def test_a_selection_is_every_arm_in_every_cell_and_the_arms_of_a_cell_follow_each_other(tmp_path):
    words = ["--protocol", "acdc2d", "--arms", "baseline,cps", "--draws", "0,2", "--budgets", "1,3", "--seeds", "4,5"]
    names = [task.name for task in plan(tmp_path, *words)]
    assert len(names) == len({*names}) == 16
    assert names[:2] == [f"acdc2d/{arm}__draw_0__labeled_1__seed_4__steps_2000" for arm in ("baseline", "cps")]
    assert all("seed_5" in name for name in names[8:])


def test_arms_go_on_from_one_supervised_training_of_their_draw_and_budget(tmp_path):
    words = ["--protocol", "acdc2d_memorised", "--arms", "baseline,cps", "--draws", "1", "--budgets", "1,3"]
    trials = plan(tmp_path, *words)
    starts = [task for task in trials if task.arm.name == "start"]
    assert [(task.budget, task.steps, task.seed) for task in starts] == [(1, 5000, 0), (3, 5000, 0)]
    assert "initial_lr" not in starts[0].settings()
    for task in trials:
        if task.start() is not None:
            assert task.settings()["initial_lr"] == 0.003
            assert trials.index(task) > trials.index(task.start())


def test_as_many_starts_as_processes_come_together_so_that_none_waits_for_another(tmp_path):
    words = [
        "--protocol",
        "acdc2d_memorised",
        "--arms",
        "baseline,cps",
        "--draws",
        "0,1,2",
        "--budgets",
        "1",
        "--seeds",
        "0",
    ]
    names = [[f"{task.arm.name} {task.draw}" for task in plan(tmp_path, *words, "--processes", n)] for n in ("1", "2")]
    assert names[0][:4] == ["start 0", "baseline 0", "cps 0", "start 1"]
    assert names[1] == [
        *("start 0", "start 1", "baseline 0", "cps 0", "start 2"),
        "baseline 1",
        "cps 1",
        "baseline 2",
        "cps 2",
    ]


def test_a_list_is_worked_off_line_by_line_and_nothing_is_asked_for_twice(tmp_path):
    path = tmp_path / "list.txt"
    cell = "--draws 0 --budgets 1 --seeds 0"
    path.write_text(
        f"# first the baseline\n--protocol acdc2d {cell}\n\n--protocol hippocampus {cell} --steps 300\n"
        f"--protocol acdc2d --arms cps,baseline {cell} --tag new  # later\n--protocol acdc2d {cell}\n"
    )
    names = [task.name.split("__")[0] for task in plan(tmp_path, "--list", str(path))]
    assert names == ["acdc2d/baseline", "hippocampus/baseline", "acdc2d/cps@new", "acdc2d/baseline@new"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--protocol", "acdc2d", "--steps", "150"], "multiple of 100"),
        (["--protocol", "acdc2d", "--budgets", "2"], "there are 1, 3, 7"),
        (["--protocol", "hippocampus", "--draws", "field"], "there are 0, 1"),
        (["--protocol", "acdc2d", "--arms", "defualt"], "defualt"),
        (["--arms", "baseline"], "--protocol"),
        (["--list", "/nowhere/list.txt"], "cannot be read"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_there_is(tmp_path, capsys, words, message):
    assert queue.main(["--out", str(tmp_path), "--dry-run", *words]) == 2
    assert message in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------------- one trial


@pytest.fixture
def data(tmp_path):
    """A prepared data set of six patients whose labels are small squares."""
    task = Prepare(TINY, tmp_path / "data" / "tiny")
    raw = task.raw / "Dataset901_Tiny"
    (raw / "labelsTr").mkdir(parents=True)
    content = {"labels": {"background": 0, "square": 1, "never": 2}, "file_ending": ".nii.gz", "channel_names": {}}
    (raw / "dataset.json").write_text(json.dumps(content))
    members = {f"case{number}": [f"case{number}"] for number in range(6)}
    for case in members:
        label = np.zeros((2, 8, 8), np.uint8)
        label[:, 2:5, 2:5] = 1
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(label), str(raw / "labelsTr" / f"{case}.nii.gz"))
    draws = make_draws(TINY, members, Grouping())
    (task.folder / "draws.json").write_text(json.dumps(asdict(draws)))
    (task.folder / PREPARED_FILE).write_text(json.dumps({"definition": task._definition()}))
    return task


class FakeCommands:
    """In place of nnU-Net's commands: writes what they write, and dies when it is told to."""

    def __init__(self, data):
        self.data, self.calls, self.die = data, [], {}

    def __call__(self, model, stage, arguments, variables):
        self.calls.append((stage, arguments, variables))
        if stage == "predict":
            self.die_if_due(stage)
            out = Path(arguments[arguments.index("-o") + 1])
            for label in (self.data.raw / "Dataset901_Tiny" / "labelsTr").iterdir():
                (out / label.name).write_bytes(label.read_bytes())
            return
        folder = model.training_folder
        folder.mkdir(parents=True, exist_ok=True)
        torch.save({}, folder / "checkpoint_latest.pth")
        self.die_if_due(stage)
        entry = {
            "version": "1",
            "settings": {"seed": 0, "nano": {}},
            "log": [],
            "pseudo_labels": None,
            "gate": {"opened_at": 0.35},
        }
        torch.save({"semisam": entry}, folder / "checkpoint_final.pth")

    def die_if_due(self, stage):
        if stage in self.die:
            status = self.die.pop(stage)
            raise CommandFailedError(stage, status, f"ended with {status}")

    def arguments_of(self, stage):
        return [arguments for name, arguments, _ in self.calls if name == stage]


@pytest.fixture
def commands(data, monkeypatch):
    fake = FakeCommands(data)
    monkeypatch.setattr(ModelRun, "command", lambda *arguments: fake(*arguments))
    return fake


@pytest.fixture
def task(tmp_path, data, commands):
    return trial.Trial(tmp_path, PROTOCOL, data, ARM, "0", 1, seed=3, steps=200)


def test_a_trial_writes_one_line_with_the_dice_of_every_judged_case(task, tmp_path):
    assert task() == Status.DONE
    (result,) = collect(tmp_path)
    assert [result] == read_results(tmp_path / RESULTS_FILE)
    assert (result.draw, result.budget, result.seed, result.steps, result.gate_step) == ("0", 1, 3, 200, 70)
    assert len(result.dice) == 2
    assert all(of_case == {"square": 1.0, "never": None} for of_case in result.dice.values())
    assert result.means()["mean"] == 1.0
    assert result.labeled == Draws.read(task.data.folder).find("0", 1).labeled
    assert json.loads((tmp_path / RESULTS_FILE).read_text())["mean_dice"]["square"] == 1.0


def test_a_trial_that_is_done_starts_no_command_again(task, commands):
    task()
    before = len(commands.calls)
    assert task() == Status.DONE
    assert len(commands.calls) == before


def test_a_trial_that_was_killed_goes_on_from_its_checkpoint(task, commands, tmp_path):
    commands.die = {"train": -signal.SIGTERM}
    assert task() == Status.STARTED
    assert collect(tmp_path) == []
    assert task() == Status.DONE
    first, second = commands.arguments_of("train")
    assert "--c" not in first
    assert "--c" in second
    assert len(collect(tmp_path)) == 1


def test_a_trial_that_was_killed_while_it_predicted_does_not_train_again(task, commands):
    commands.die = {"predict": 1}
    assert task() == Status.FAILED
    assert task() == Status.DONE
    assert len(commands.arguments_of("train")) == 1
    assert len(commands.arguments_of("predict")) == 2


def test_every_command_has_one_thread_and_judging_is_without_mirroring(task, commands):
    task()
    assert all(variables["OMP_NUM_THREADS"] == "1" for _, _, variables in commands.calls)
    assert all(variables["nnUNet_raw"] == str(task.data.raw) for _, _, variables in commands.calls)
    (predict,) = commands.arguments_of("predict")
    assert "--disable_tta" in predict
    assert predict[predict.index("-chk") + 1] == "checkpoint_final.pth"


def test_a_training_begins_with_all_weights_of_the_common_start(task, commands, tmp_path):
    memorised = replace(task, protocol=replace(PROTOCOL, start_steps=500))
    commands.die = {}
    memorised.start()()
    commands.die = {"train": -signal.SIGTERM}
    assert memorised() == Status.STARTED
    assert memorised() == Status.DONE
    _, first, second = commands.arguments_of("train")
    assert "--c" not in first
    assert "--c" in second  # a resumed training leaves its initial weights alone
    checkpoint = yaml.safe_load((memorised.folder / "settings.yaml").read_text())["initial_weights"]
    assert Path(checkpoint).is_file()
    assert str(memorised.start().folder) in checkpoint


@pytest.fixture
def self_training(task, data, commands, monkeypatch):
    """A trial whose arm trains itself; pools and datasets of its rounds are left out."""
    labeled = []

    def make_plan(dataset, plans, folds, options):
        cases = {fold: FoldCases(["case0"], ["case1"], ["case2"], []) for fold in folds}
        return SelfTraining(dataset="Dataset901_Tiny", plans=plans, plans_sha256="0", folds=cases, **options)

    monkeypatch.setattr(trial, "open_dataset", lambda *names: None)
    monkeypatch.setattr(trial, "make_plan", make_plan)
    monkeypatch.setattr(tasks, "run_measured", lambda *command: labeled.append(command))
    arm = Arm("selftrain", "nnUNetTrainerSemiSAM", {"initial_lr": 0.02}, {"rounds": 2, "threshold": 0.5})
    return replace(task, arm=arm, steps=500), labeled


def test_the_trainings_of_a_self_training_share_the_steps_of_a_trial(self_training, commands, tmp_path):
    task, labeled = self_training
    assert task() == Status.DONE
    lengths = [yaml.safe_load(path.read_text()) for path in sorted(task.folder.rglob("settings.yaml"))]
    assert [length["num_epochs"] for length in lengths] == [1, 1, 3]
    assert {length["initial_lr"] for length in lengths} == {0.02}
    trainers = [words[words.index("-tr") + 1] for words in commands.arguments_of("train")]
    assert trainers == ["nnUNetTrainerSemiSAM", "nnUNetTrainerSupervised", "nnUNetTrainerSupervised"]
    (predict,) = commands.arguments_of("predict")
    assert predict[predict.index("-tr") + 1] == "nnUNetTrainerSupervised"
    assert "round_2" in str(task.model.training_folder)
    assert len(labeled) == 4  # the pool and the dataset of two rounds
    (result,) = collect(tmp_path)
    assert (result.arm, result.steps) == ("selftrain", 500)
    assert result.settings["self_training"] == {"rounds": 2, "threshold": 0.5}


def test_a_self_training_that_has_changed_is_not_mistaken_for_the_one_that_was_begun(self_training):
    task, _ = self_training
    task()
    with pytest.raises(UserError, match="another name"):
        replace(task, arm=replace(task.arm, self_training={"rounds": 2})).finished()


def test_a_self_training_starts_from_scratch(self_training):
    task, _ = self_training
    with pytest.raises(UserError, match="from scratch"):
        replace(task, protocol=replace(PROTOCOL, start_steps=500)).start()


class FakeAdaptation:
    """In place of ``sam adapt``: gains, gains nothing, or fails."""

    def __init__(self, ends):
        self.ends, self.calls = ends, []

    def __call__(self, command, environment, log, stage, **_):
        self.calls.append((command, environment))
        folder = Path(command[command.index("-o") + 1])
        if self.ends == "gains":
            folder.mkdir(parents=True)
            (folder / "adapter.safetensors").touch()
            return
        log.write_text(
            "No step was better than nano as it is: nothing was written. Use it without an adapter."
            if self.ends == "gains nothing"
            else "Traceback"
        )
        raise CommandFailedError(stage, 1, "ended with 1")


def adapting(task, monkeypatch, ends):
    fake = FakeAdaptation(ends)
    monkeypatch.setattr(trial.processes, "run_checked", fake)
    return replace(task, arm=Arm("adapted", "nnUNetTrainerSemiSAM", {"nano": {"axis": 0}}, adapted=("nano",))), fake


def test_a_sam_learns_from_the_labeled_cases_of_the_fold_before_the_training(task, commands, monkeypatch):
    adapted, fake = adapting(task, monkeypatch, "gains")
    commands.die = {"train": -signal.SIGTERM}
    assert adapted() == Status.STARTED
    assert adapted() == Status.DONE
    ((command, _),) = fake.calls  # once: what was adapted before the training was killed is there
    assert command[1:3] == ["sam", "adapt"]
    assert command[command.index("-f") + 1] == str(adapted.fold)
    assert command[command.index("--device") + 1] == "cpu"
    assert yaml.safe_load((adapted.folder / "adapt.yaml").read_text())["nano"] == {"axis": 0}
    settings = yaml.safe_load((adapted.folder / "settings.yaml").read_text())["nano"]
    assert settings == {"axis": 0, "adapter": str(adapted.folder / "adapters" / "nano" / "adapter.safetensors")}


def test_a_sam_that_gained_nothing_on_its_hold_out_is_used_as_it_is(task, monkeypatch):
    adapted, fake = adapting(task, monkeypatch, "gains nothing")
    assert adapted() == Status.DONE
    assert len(fake.calls) == 1
    assert yaml.safe_load((adapted.folder / "settings.yaml").read_text())["nano"] == {"axis": 0}


def test_an_adaptation_that_failed_fails_the_trial(task, commands, monkeypatch):
    adapted, _ = adapting(task, monkeypatch, "fails")
    assert adapted() == Status.FAILED
    assert commands.calls == []


def test_adapters_of_their_own_do_not_make_the_trials_of_an_arm_different(task, monkeypatch):
    adapted, _ = adapting(task, monkeypatch, "gains")
    there = {"nano": {"axis": 0, "adapter": "/there/adapter.safetensors"}, "seed": 1}
    here = {"nano": {"axis": 0, "adapter": "/here/adapter.safetensors"}, "seed": 2}
    assert adapted._comparable(there) == adapted._comparable(here)
    assert adapted._comparable(there) != adapted._comparable({**there, "nano": {"axis": 1, "adapter": None}})


def test_an_arm_that_has_changed_is_not_mistaken_for_the_trial_that_was_begun(task):
    task()
    changed = replace(task, arm=replace(ARM, settings={"initial_lr": 0.02}))
    with pytest.raises(UserError, match="another name"):
        changed.finished()


def test_data_prepared_by_another_definition_are_refused(data):
    with pytest.raises(UserError, match="another definition"):
        replace(data, data=replace(TINY, num_judged=3)).finished()


def test_the_queue_carries_out_what_is_left_and_a_failure_stops_no_other(tmp_path, data, commands, monkeypatch, capsys):
    monkeypatch.setattr(queue, "PROTOCOLS", {"tiny": PROTOCOL})
    monkeypatch.setattr(queue, "find_protocol", lambda name: PROTOCOL)
    words = ["--out", str(tmp_path), "--protocol", "tiny", "--draws", "0,1", "--seeds", "0", "--processes", "1"]
    commands.die = {"predict": 1}
    assert queue.main(words) == 1
    assert len(read_results(tmp_path / RESULTS_FILE)) == 1
    assert queue.main(words) == 0
    assert len(read_results(tmp_path / RESULTS_FILE)) == 2
    assert len(commands.arguments_of("train")) == 2
    assert "failed" in capsys.readouterr().out


# --------------------------------------------------------------------------------------------------- comparing arms


def result(arm, draw, seed, dice, **changes):
    """Return a result with ``patient -> label -> Dice``."""
    values = {
        "protocol": "acdc2d",
        "arm": arm,
        "trainer": "nnUNetTrainerSupervised" if arm == "baseline" else "nnUNetTrainerCPS",
        "draw": draw,
        "budget": 1,
        "seed": seed,
        "steps": 2000,
        "labeled": ["z"],
        "judged": "development",
        "settings": {},
        "settings_sha256": "1",
        "commits": ["c"],
        "variables": {},
        "train_seconds": 600.0,
        "predict_seconds": 60.0,
        "starts": 1,
        "gate_step": None if arm == "baseline" else 1200,
        "patient": {name: name for name in dice},
        "dice": dice,
    }
    return TrialResult(**(values | changes))


def grid(differences):
    """Return pairs of results with ``(draw, seed) -> patient -> difference`` on one label."""
    ours, theirs = [], []
    for (draw, seed), of_run in differences.items():
        theirs.append(result("baseline", draw, seed, {patient: {"LV": 0.5} for patient in of_run}))
        ours.append(result("cps", draw, seed, {patient: {"LV": 0.5 + value} for patient, value in of_run.items()}))
    return ours, theirs


def test_the_interval_is_that_of_all_equally_likely_resamples_counted_by_hand(monkeypatch):
    values = {("0", 0): {"a": 0.1, "b": 0.3}, ("1", 0): {"a": -0.2, "b": 0.4}}
    matrix = np.array([[0.1, 0.3], [-0.2, 0.4]])
    picks = list(itertools.product(range(2), repeat=2))
    means = [matrix[np.ix_(runs, patients)].mean() for runs in picks for patients in picks]
    assert paired.two_way_interval(values) == pytest.approx((min(means), max(means)))  # a share of 1 / 16 each
    monkeypatch.setattr(paired, "LEVEL", 0.6)
    by_hand = np.percentile(means, [20, 80], method="inverted_cdf")
    assert paired.two_way_interval(values, resamples=20_000) == pytest.approx(by_hand)


def test_differences_mean_p_and_counts_are_those_calculated_by_hand():
    ours, theirs = grid({("0", 0): {"a": 0.1, "b": 0.3, "c": 0.2}, ("1", 0): {"a": 0.0, "b": 0.2, "c": 0.1}})
    found = paired.difference(paired.pair(ours, theirs), "mean")
    assert found.mean == pytest.approx(0.15)
    assert (found.ours, found.theirs) == pytest.approx((0.65, 0.5))
    assert found.p_patients == pytest.approx(0.25)  # three positive differences: 2 / 2**3
    assert found.p_runs == pytest.approx(0.5)  # two: 2 / 2**2
    assert (found.runs, found.draws, found.patients) == (2, 2, 3)
    assert found.low <= 0.15 <= found.high


def test_trainings_that_disagree_widen_the_interval_as_patients_do():
    patients = "abcdefghij"
    agree = {(str(draw), 0): dict.fromkeys(patients, 0.1) for draw in range(4)}
    differ = {(str(draw), 0): dict.fromkeys(patients, 0.1 * (draw - 0.5)) for draw in range(4)}
    assert paired.two_way_interval(agree) == pytest.approx((0.1, 0.1))
    low, high = paired.two_way_interval(differ)
    assert high - low > 0.1


def test_seeds_of_one_draw_are_no_draws_of_their_own():
    patients = "abcdefghij"
    by_draw = {(str(draw), seed): dict.fromkeys(patients, 0.1 * draw) for draw in range(3) for seed in range(8)}
    as_if_draws = {(f"{draw}-{seed}", 0): values for (draw, seed), values in by_draw.items()}
    low, high = paired.two_way_interval(by_draw)
    narrow_low, narrow_high = paired.two_way_interval(as_if_draws)
    assert high - low > 2 * (narrow_high - narrow_low)


def test_one_training_or_one_patient_has_no_interval():
    assert paired.two_way_interval({("0", 0): {"a": 0.1, "b": 0.2}}) == (None, None)
    assert paired.two_way_interval({("0", 0): {"a": 0.1}, ("1", 0): {"a": 0.2}}) == (None, None)


def test_an_invented_structure_counts_against_the_arm_that_invents_it():
    ours = result("cps", "0", 0, {"a": {"LV": 0.0}, "b": {"LV": 0.5}})
    theirs = result("baseline", "0", 0, {"a": {"LV": None}, "b": {"LV": 0.5}})
    assert paired.difference([(ours, theirs)], "LV").mean == pytest.approx(-0.5)


def test_trials_pair_by_draw_and_seed_and_a_start_with_all_seeds_of_its_draw():
    ours = [result("cps", draw, seed, {"a": {"LV": 0.5}}) for draw in "01" for seed in (0, 1)]
    baseline = [result("baseline", "0", seed, {"a": {"LV": 0.5}}) for seed in (1, 2)]
    assert [(one.draw, one.seed) for one, _ in paired.pair(ours, baseline)] == [("0", 1)]
    start = [result("start", "1", 0, {"a": {"LV": 0.5}})]
    assert [(one.draw, one.seed) for one, _ in paired.pair(ours, start)] == [("1", 0), ("1", 1)]


def test_the_table_says_what_is_worse_what_has_no_partner_and_where_choices_are_made(tmp_path, capsys):
    def dice(rv, lv, patients="abcdefgh"):
        return {p: {"RV": rv + 0.01 * i, "LV": lv + 0.02 * i} for i, p in enumerate(patients)}

    runs = [(draw, seed) for draw in "012" for seed in (0, 1)]
    results = [result("baseline", draw, seed, dice(0.4 + 0.01 * seed, 0.5)) for draw, seed in runs]
    results += [result("cps", draw, seed, dice(0.3, 0.7)) for draw, seed in runs]
    results.append(result("cps", "5", 0, dice(0.3, 0.7), commits=["d"]))
    path = tmp_path / RESULTS_FILE
    path.write_text("".join(json.dumps(one.to_json()) + "\n" for one in results))
    assert analyse.main(["--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    row = next(line for line in text.splitlines() if line.startswith("| cps"))
    assert "| 6 (3) | 8 |" in row
    assert "+4.7" in row  # (-0.105 + 0.2) / 2
    assert "RV -10.5" in row
    assert "**worse**" in row
    assert "1200, " not in row
    assert "choices are made on these patients" in text
    assert "cps: 1 trainings have no partner" in text
    assert "more than one commit" in text
    assert "standard deviation of 0.4" in text


def decided(weight, *gains):
    record = ClassRecord("1", "nano", weight, (0.0, 0.0), 0.8, 0.7, 0.9, 3, "", 1.0, 1.0)
    return Decision(record, weight or 0.5, [0.5] * len(gains), [0.4] * len(gains), [0.5 + gain for gain in gains])


@pytest.mark.parametrize(
    ("weight", "gains", "right"),
    [(0.5, (0.1, -0.02), True), (0.5, (0.01, -0.02), False), (0.0, (-0.1,), True), (0.0, (0.1,), False)],
)
def test_a_decision_is_right_where_it_follows_the_mean_gain_on_hidden_cases(weight, gains, right):
    assert decided(weight, *gains).right is right


def test_what_a_decision_does_is_the_dice_of_the_labels_that_it_makes():
    """Four voxels, truth 1 1 0 0: the network finds the first, the generalist the second, both together the two."""
    labels = Labels.of_classes(2)
    own = np.array([[0.9, 0.3, 0.1, 0.1]], dtype=np.float32)
    probs = np.array([[0.2, 0.9, 0.1, 0.1]], dtype=np.float32)
    everywhere = np.ones((1, 4), dtype=bool)
    prediction = CasePrediction(probs, np.ones_like(probs), everywhere, ~everywhere)
    decision = decided(0.5)
    decision.add(labels, np.concatenate([1 - own, own]), prediction, np.array([1, 1, 0, 0]))
    decision.add(labels, np.concatenate([1 - own, own]), prediction, np.zeros(4, dtype=int))  # the class is not shown
    assert decision.network == [2 / 3]
    assert decision.generalist == [2 / 3]
    assert decision.fused == [1.0]


def test_the_table_of_decisions_has_a_row_for_each_and_names_of_classes():
    header, _, *lines = rows([decided(0.5, 0.1, 0.3), decided(0.0, 0.1, 0.3)], {"1": "RV"})
    assert len(header.split("|")) == len(lines[0].split("|"))
    assert lines[0].startswith("| nano | RV | 0.800 | 0.900 | 0.5 | 0.500 |")
    assert lines[0].endswith("| +0.200 ± 0.100 | 100% of 2 | right |")
    assert "inactive (0.5 tried)" in lines[1]
    assert lines[1].endswith("| wrong |")


def test_a_line_that_a_killed_process_tore_is_left_out_and_written_again(task, tmp_path):
    task()
    collect(tmp_path)
    whole = (tmp_path / RESULTS_FILE).read_text()
    (tmp_path / RESULTS_FILE).write_text(whole[:40])
    with pytest.raises(UserError, match="no result"):
        read_results(tmp_path / RESULTS_FILE)
    collect(tmp_path)
    assert (tmp_path / RESULTS_FILE).read_text() == whole
