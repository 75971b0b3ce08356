"""When there is a round, with how many cases, and what a checkpoint needs to go on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from nnunet_semisam.context import DataContext, TrainingContext
from nnunet_semisam.data.geometry import Geometry, known_spacing, write_geometry
from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels import round_log
from nnunet_semisam.pseudo_labels.calibration_table import CalibrationTable
from nnunet_semisam.pseudo_labels.resumed_rounds import RoundPlace
from nnunet_semisam.pseudo_labels.round_log import ClassRecord
from nnunet_semisam.pseudo_labels.session import PseudoLabelSession, RoundPlan, can_prompt
from nnunet_semisam.pseudo_labels.store import PseudoLabelStore
from nnunet_semisam.pseudo_labels.term import PseudoLabelTerm
from nnunet_semisam.settings import Settings

CLASSES, REGIONS = Labels.of_classes(3), Labels.of_regions(2)


def table(*weights: float) -> CalibrationTable:
    classes = (
        ClassRecord(str(f + 1), "nano", weight, (0.5, 0.5), 0.7, 0.8, 0.8, 2, "measured", 1.0, 1.0)
        for f, weight in enumerate(weights)
    )
    return CalibrationTable(("nano",), tuple(classes))


class FakeEnsemble:
    """Remembers one number from round to round."""

    def __init__(self) -> None:
        self.members, self.remembered = [SimpleNamespace(name="nano")], 0

    def state_dict(self) -> dict:
        return {"nano": {"remembered": self.remembered}}

    def load_state_dict(self, state: dict) -> None:
        self.remembered = state["nano"]["remembered"]


class FakeStage:
    """Makes empty rounds, and calibrates as it is told."""

    def __init__(self, store: PseudoLabelStore, helps: list[CalibrationTable]) -> None:
        self.store, self.helps, self.pipeline = store, helps, self
        self.ensemble = FakeEnsemble()
        self.estimate, self.told = 0.6, None
        self.calibration: CalibrationTable | None = None
        self.rounds: list[list[str]] = []
        self.calibrated_with: list[list[str]] = []

    def refresh(self, round_index, cases, epoch, **ranks) -> None:
        self.rounds.append(cases)
        self.store.begin(round_index)
        self.store.commit(round_index, {})

    def estimate_dice(self, cases) -> float | None:
        self.estimated_with = cases
        return self.estimate

    def calibration_cases(self, cases) -> list[str]:
        return list(cases)

    def calibrate(self, round_index, epoch, cases, load_label, estimated_dice) -> CalibrationTable:
        self.calibrated_with.append(cases)
        self.told = estimated_dice
        return self.helps.pop(0) if len(self.helps) > 1 else self.helps[0]

    def use_calibration(self, calibration: CalibrationTable) -> None:
        self.calibration = calibration


def test_an_old_label_teaches_less_of_all_its_voxels_and_leaves_none_out():
    """Foreground has a lower confidence: aged before the threshold, it was ignored long before the background."""
    term = PseudoLabelTerm(Settings.of(use_sam=True).block("sam"), CLASSES)
    label, confidence = (
        torch.tensor([0, 1, 2, 0]).view(1, 1, 1, 4),
        torch.tensor([0.8, 0.55, 0.4, 0.8]).view(1, 1, 1, 4),
    )
    pseudo = term.pseudo_label(label, confidence, torch.tensor([0.5]))
    assert pseudo.weighted_confidence.flatten().tolist() == pytest.approx([0.4, 0.275, 0.0, 0.4])


def context_in(folder: Path, log=lambda text: None, **settings) -> TrainingContext:
    blocks = {"use_sam": True, "num_epochs": 10, "sam": {"start": 0.0, "refresh_epochs": 1}, **settings}
    data = DataContext(folder, None, SimpleNamespace(patch_size=(8, 8)), "2d", {}, log)
    return TrainingContext(
        settings=Settings.of(**blocks),
        data=data,
        labels=CLASSES,
        label_manager=None,
        labeled_dataset=SimpleNamespace(identifiers=[f"labeled_{i}" for i in range(8)]),
        output_folder=folder,
        device=torch.device("cpu"),
        batch_size=2,
    )


def session_in(folder: Path, helps=None, weights=(1.0, 1.0, 1.0), cases: int = 5, **settings) -> PseudoLabelSession:
    """Return a session without SAM and network: only what its rules read."""
    made = object.__new__(PseudoLabelSession)
    made.context = context_in(folder, **settings)
    made.settings = made.context.settings.block("sam")
    made.term = PseudoLabelTerm(made.settings, CLASSES)
    made.pool = SimpleNamespace(files={f"case_{i:02d}": None for i in range(cases)})
    made.gate = SimpleNamespace(
        class_weights=lambda: torch.tensor(weights), estimated_dice=lambda: 0.8, left_out=frozenset(), is_patient=True
    )
    made.labeled = SimpleNamespace(cases=[f"labeled_{i}" for i in range(8)], load_label=None)
    made.store = PseudoLabelStore(folder / "store")
    made.reader = SimpleNamespace(point_to=lambda index: setattr(made, "read", index))
    made.stage = FakeStage(made.store, helps or [table(0.5, 0.0)])
    made.plan = RoundPlan.of(made.context, windows_per_case=4)
    made.current_round, made._next_round, made._last_refresh, made._last_round = None, 0, None, {}
    made.waits_for, made.seconds = [], 0.0
    return made


def test_a_round_comes_into_use_for_loaders_and_loss_and_is_recorded(tmp_path):
    session = session_in(tmp_path)
    assert not session.term.active
    session.maybe_refresh(0)
    assert (session.current_round, session.read, session.term.active) == (0, 0, True)
    (record,) = round_log.read(tmp_path).rounds
    assert (record.round, record.epoch, record.cases, record.active) == (0, 0, 5, True)


def test_rounds_keep_their_distance(tmp_path):
    session = session_in(tmp_path, sam={"start": 0.2, "refresh_epochs": 3, "cases_per_refresh": 2})
    for epoch in range(10):
        session.maybe_refresh(epoch)
    assert len(session.stage.rounds) == 3, "epochs 2, 5 and 8"


def test_where_no_generalist_helps_labels_are_of_the_network_alone(tmp_path):
    session = session_in(tmp_path, helps=[table(0.0, 0.0)])
    session.maybe_refresh(0)
    assert (session.current_round, session.term.active) == (0, True)
    assert len(session.stage.rounds[0]) == 5
    assert [record.active for record in round_log.read(tmp_path).rounds] == [True]


def test_calibration_is_told_how_good_the_network_is_on_unlabeled_cases(tmp_path):
    session = session_in(tmp_path, sam={"start": 0.0, "refresh_epochs": 1, "calibration_cases": 2})
    session.maybe_refresh(0)
    assert session.stage.told == 0.6
    assert len(session.stage.estimated_with) == 2
    assert set(session.stage.estimated_with) < set(session.pool.files)
    other = session_in(tmp_path / "other")
    (tmp_path / "other").mkdir()
    other.stage.estimate = None
    other.maybe_refresh(0)
    assert other.stage.told == 0.8, "the gate's, where there is no second opinion"


def test_without_a_second_opinion_and_where_no_generalist_helps_the_term_is_inactive_until_a_calibration_says_otherwise(
    tmp_path,
):
    session = session_in(
        tmp_path,
        helps=[table(0.5, 0.0), table(0.0, 0.0), table(0.0, 0.5)],
        sam={"start": 0.0, "refresh_epochs": 1, "calibrate_every": 1, "mirror": False},
    )
    states = []
    for epoch in range(3):
        session.maybe_refresh(epoch)
        states.append((session.current_round, session.term.active))
    assert states == [(0, True), (None, False), (2, True)]
    assert [record.active for record in round_log.read(tmp_path).rounds] == [True, False, True]


def test_calibrations_roll_over_the_labeled_cases(tmp_path):
    session = session_in(
        tmp_path, sam={"start": 0.0, "refresh_epochs": 1, "calibrate_every": 2, "calibration_cases": 3}
    )
    for epoch in range(4):
        session.maybe_refresh(epoch)
    assert session.stage.calibrated_with == [
        ["labeled_0", "labeled_1", "labeled_2"],
        ["labeled_3", "labeled_4", "labeled_5"],
    ]


def test_a_resumed_training_goes_on_with_round_and_calibration(tmp_path):
    first = session_in(tmp_path)
    first.maybe_refresh(0)
    resumed = session_in(tmp_path, helps=[table(0.0, 0.0)])
    resumed.load_state_dict(first.state_dict())
    assert (resumed.current_round, resumed.term.active) == (0, True)
    assert resumed.stage.calibration == first.stage.calibration
    resumed.maybe_refresh(1)
    assert resumed.stage.calibrated_with == [], "round 1 follows the calibration of round 0"
    assert resumed.store.rounds() == [0, 1]


def test_a_resumed_training_goes_on_with_what_generalists_remember(tmp_path):
    first = session_in(tmp_path)
    first.stage.ensemble.remembered = 7
    resumed = session_in(tmp_path)
    resumed.load_state_dict(first.state_dict())
    assert resumed.stage.ensemble.remembered == 7


@pytest.mark.parametrize("content", [{"nano": {}}, 3, {"nano": None}])
def test_generalists_start_anew_where_the_checkpoint_cannot_be_used(tmp_path, content):
    said = []
    resumed = session_in(tmp_path)
    resumed.context = context_in(tmp_path, said.append)
    resumed.load_state_dict({**session_in(tmp_path).state_dict(), "generalists": content})
    assert resumed.stage.ensemble.remembered == 0
    assert any("What generalists remember of earlier rounds cannot be used" in line for line in said)


def test_a_round_that_is_gone_is_made_again(tmp_path):
    first = session_in(tmp_path)
    first.maybe_refresh(0)
    state = first.state_dict()
    resumed = session_in(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    resumed.load_state_dict(state)
    assert not resumed.term.active
    resumed.maybe_refresh(0)
    assert resumed.current_round == 1


def test_a_resumed_training_goes_on_with_the_round_that_process_0_sees(tmp_path, monkeypatch):
    first = session_in(tmp_path)
    first.maybe_refresh(0)
    state = first.state_dict()
    resumed = session_in(tmp_path)
    resumed.context = replace(resumed.context, rank=1, world_size=2)
    seen_there = (RoundPlace(None, 7, None, "Round 0 of pseudo-labels is gone"), None)
    monkeypatch.setattr("nnunet_semisam.ranks.from_rank_zero", lambda value: seen_there)
    resumed.load_state_dict(state)
    assert (resumed.current_round, resumed._next_round, resumed._last_refresh) == (None, 7, None)


def test_process_0_calibrates_and_the_others_follow_its_table(tmp_path, monkeypatch):
    session = session_in(tmp_path)
    object.__setattr__(session.context, "rank", 1)
    told = []
    monkeypatch.setattr(
        "nnunet_semisam.ranks.from_rank_zero", lambda value: told.append(value) or (table(0.25, 0.0), None)
    )
    session.maybe_refresh(0)
    assert told == [(None, None)]
    assert session.stage.calibrated_with == []
    assert session.stage.calibration == table(0.25, 0.0)
    assert round_log.read(tmp_path).rounds == (), "process 0 writes the records"


def test_rounds_that_checkpoints_name_are_kept_and_the_previous_one(tmp_path):
    session = session_in(tmp_path)
    for epoch in range(5):
        session.maybe_refresh(epoch)
    session.keep_rounds({1})
    assert session.store.rounds() == [1, 3, 4]


def test_without_a_network_that_knows_its_classes_there_is_no_round(tmp_path):
    session = session_in(tmp_path, weights=(0.0, 0.4, 0.0))
    session.maybe_refresh(0)
    assert session.stage.rounds == []
    assert session.waits_for == [2]


def test_the_session_tells_when_a_round_is_due_and_what_all_cost_across_a_resume(tmp_path):
    session = session_in(tmp_path, sam={"start": 0.25, "refresh_epochs": 4})
    assert session.next_refresh == 3  # a quarter of ten epochs
    assert session.seconds_to_come(10, 0) == 0  # nobody knows yet what a round takes
    session.maybe_refresh(3)
    assert session.next_refresh == 7
    assert session.seconds_to_come(10, 3) == session.seconds  # one more, before epoch 7
    assert session.seconds_to_come(16, 3) == 3 * session.seconds  # before epochs 7, 11 and 15
    assert session.seconds_to_come(10, 8) == session.seconds  # it waits for a class, and is due after epoch 8
    assert session.seconds == round_log.read(tmp_path).rounds[0].seconds > 0
    resumed = session_in(tmp_path, sam={"start": 0.25, "refresh_epochs": 4})
    resumed.load_state_dict(session.state_dict())
    assert (resumed.next_refresh, resumed.seconds) == (7, session.seconds)


def test_the_budget_is_that_of_the_first_round_and_all_further_ones(tmp_path):
    sam = {"start": 0.0, "refresh_epochs": 5, "cases_per_refresh": 2, "compute_share": 1e-9}
    session = session_in(tmp_path, cases=3, num_epochs=20, num_iterations_per_epoch=10, sam=sam)
    # two cases of 3 predictions x 4 windows in each of 4 rounds, against 8 forwards of 20 x 10 x 2 patches
    assert session.budget == pytest.approx(4 * 2 * 12 / (8 * 400))


@pytest.mark.parametrize(
    ("labels", "weights", "ready"),
    [
        (CLASSES, [0.6, 0.6, 0.6], True),
        (CLASSES, [0.1, 1.0, 0.1], True),
        (CLASSES, [0.0, 1.0, 0.0], False),  # what is called background could be class 2
        (REGIONS, [0.9, 0.0], True),
        (REGIONS, [0.0, 0.0], False),
    ],
)
def test_prompts_need_a_network_that_knows_every_class(labels, weights, ready):
    assert can_prompt(torch.tensor(weights), labels) is ready


def test_after_the_patience_of_the_gate_one_class_that_is_known_is_enough_to_prompt():
    assert can_prompt(torch.tensor([0.0, 1.0, 0.0]), CLASSES, all_classes=False)
    assert not can_prompt(torch.tensor([0.0, 0.0, 0.0]), CLASSES, all_classes=False)


def test_the_first_round_takes_as_many_cases_as_its_share_of_the_whole_training_pays_for(tmp_path):
    sam = {"start": 0.0, "refresh_epochs": 1}
    session = session_in(tmp_path, cases=40, num_epochs=20, num_iterations_per_epoch=10, sam=sam)
    # 0.05 * 8 forwards * patches / (4 windows * 3 predictions): 20 patches an epoch give 1 case, 400 patches give 13
    assert session.plan == RoundPlan(refresh_epochs=1, cases_per_refresh=1, cases_at_first=13)
    session.maybe_refresh(0)
    session.maybe_refresh(1)
    first, second = session.stage.rounds
    assert len(first) == 13
    assert len(second) == 1
    assert set(second).isdisjoint(first), "a case that has no label yet"


def test_a_resumed_training_goes_on_with_the_cases_that_wait(tmp_path):
    sam = {"start": 0.0, "refresh_epochs": 1, "cases_per_refresh": 2, "compute_share": 1e-6}
    first = session_in(tmp_path, cases=6, sam=sam)
    first.maybe_refresh(0)
    resumed = session_in(tmp_path, cases=6, sam=sam)
    resumed.load_state_dict(first.state_dict())
    resumed.maybe_refresh(1)
    resumed.maybe_refresh(2)
    turns = [case for each in (*first.stage.rounds, *resumed.stage.rounds) for case in each]
    assert sorted(turns) == [f"case_{i:02d}" for i in range(6)]


def test_all_processes_plan_the_same_rounds_whatever_their_share_of_the_batch(tmp_path, monkeypatch):
    """Batches of 3 on two GPUs are 2 and 1: plans that differ would leave one process waiting for ever."""
    monkeypatch.setattr("nnunet_semisam.ranks.gathered", lambda value: [2, 1])
    context = context_in(tmp_path, num_epochs=20, num_iterations_per_epoch=20)
    # 0.05 * 8 forwards * 60 patches an epoch / (4 windows * 3 predictions): 2; 40 of one process give 1
    assert RoundPlan.of(context, windows_per_case=4).cases_per_refresh == 2


def test_the_budget_counts_every_prediction_of_a_case_and_the_generalists_masks(tmp_path):
    def cases(**sam) -> int:
        context = context_in(tmp_path, num_epochs=20, num_iterations_per_epoch=100, sam={"refresh_epochs": 1, **sam})
        return RoundPlan.of(context, windows_per_case=4).cases_per_refresh

    # 0.05 * 8 forwards * 200 patches / 4 windows = 20 predictions
    assert cases() == 6
    assert cases(mirror=False) == 10
    assert cases(mirror=False, generalist_cost=0.0) == 20
    assert cases(generalist_cost=8.0) == 2


def test_a_round_that_a_resumed_run_left_behind_is_no_first_round(tmp_path):
    left = session_in(tmp_path, cases=40, num_epochs=20, num_iterations_per_epoch=10)
    left.maybe_refresh(0)
    resumed = session_in(tmp_path, cases=40, num_epochs=20, num_iterations_per_epoch=10)
    resumed.maybe_refresh(0)  # from a checkpoint before any round
    assert resumed.stage.rounds == left.stage.rounds


def test_rounds_per_training_decides_where_refresh_epochs_is_null(tmp_path):
    context = context_in(tmp_path, num_epochs=100, sam={"rounds_per_training": 10, "cases_per_refresh": 3})
    assert RoundPlan.of(context, 4.0).refresh_epochs == 10


def test_the_slice_distance_of_a_2d_configuration_comes_from_the_case(tmp_path):
    plans, configuration = SimpleNamespace(transpose_forward=[0, 1, 2]), SimpleNamespace(spacing=[1.5, 1.5])
    data = DataContext(tmp_path, plans, configuration, "2d", {})
    assert known_spacing(data, "case_1") is None
    identity = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    write_geometry(tmp_path, "case_1", Geometry((7.0, 1.2, 1.2), (0.0, 0.0, 0.0), identity, (9, 100, 100)))
    assert known_spacing(data, "case_1") == (7.0, 1.5, 1.5)
