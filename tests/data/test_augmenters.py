import os

import pytest
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter

from nnunet_semisam.data.augmenters import (
    VARIABLE,
    UnlabeledBatches,
    finish,
    labeled_share,
    share_workers,
    start_augmenter,
)
from nnunet_semisam.errors import UserError


class Counting:
    """A loader of numbers; what the augmenters need of one."""

    thread_id = 0
    was_initialized = False
    indices = ("a", "b", "c")

    def __init__(self) -> None:
        self.count = 0

    def set_thread_id(self, thread_id: int) -> None:
        self.thread_id = thread_id

    def __iter__(self):
        return self

    def __next__(self) -> dict:
        self.count += 1
        return {"data": self.count, "process": os.getpid()}


@pytest.mark.parametrize(
    ("allowed", "labeled", "unlabeled"), [(0, 0, 0), (1, 1, 1), (2, 1, 1), (3, 1, 2), (12, 6, 6), (13, 6, 7)]
)
def test_workers_are_shared(allowed, labeled, unlabeled):
    assert share_workers(allowed) == (labeled, unlabeled)


def test_nnunet_sees_its_share_for_a_while(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 16)  # nnU-Net allows no more workers than CPUs
    monkeypatch.setenv(VARIABLE, "7")
    with labeled_share() as unlabeled:
        assert (os.environ[VARIABLE], unlabeled) == ("3", 4)
    assert os.environ[VARIABLE] == "7"


def test_variable_that_was_not_set_is_not_set_afterwards(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(ValueError, match="invalid literal"), labeled_share():
        int(os.environ[VARIABLE] + " workers")
    assert VARIABLE not in os.environ


def test_without_workers_batches_are_made_here():
    augmenter = start_augmenter(Counting(), 0, pin_memory=False)
    assert isinstance(augmenter.augmenter, SingleThreadedAugmenter)
    assert next(augmenter) == {"data": 2, "process": os.getpid()}  # the first went into the start
    finish(augmenter)  # nothing to stop
    finish(None)


def test_workers_make_batches_elsewhere_and_are_stopped(capsys):
    augmenter = start_augmenter(Counting(), 1, pin_memory=False)
    try:
        assert isinstance(augmenter.augmenter, NonDetMultiThreadedAugmenter)
        assert next(augmenter)["process"] != os.getpid()
        workers = list(augmenter.augmenter._processes)
        assert all(worker.is_alive() for worker in workers)
    finally:
        finish(augmenter)
    assert not any(worker.is_alive() for worker in workers)
    finish(augmenter)  # may be called again
    assert capsys.readouterr().out == ""


# ------------------------------------------------------------------------------------------------- cases that are lost


def batches_that_lose(*lost: dict[str, str], cases: int = 5) -> tuple[UnlabeledBatches, list[str]]:
    told: list[str] = []
    return UnlabeledBatches(
        iter([{"data": i, "lost": names} for i, names in enumerate(lost)]), cases, told.append
    ), told


def test_lost_case_is_told_once_by_whichever_worker_finds_it_first():
    batches, told = batches_that_lose({"a": "a.b2nd is torn."}, {}, {"a": "a.b2nd is torn.", "b": "b.b2nd, too."})
    assert [next(batches) for _ in range(3)] == [{"data": i} for i in range(3)]
    assert len(told) == 2
    assert told[0].startswith(
        "WARNING: a is left out from now on: a.b2nd is torn. 1 of 5 unlabeled cases cannot be read"
    )
    assert "2 of 5 unlabeled cases" in told[1]


def test_training_stops_when_more_than_half_of_the_cases_are_lost():
    batches, told = batches_that_lose({"a": "a."}, {"b": "b."}, {"c": "c.b2nd is torn."}, cases=5)
    next(batches)
    next(batches)
    with pytest.raises(UserError, match=r"3 of 5 unlabeled cases .* stops; the last one is c: c\.b2nd is torn"):
        next(batches)
    assert len(told) == 2
