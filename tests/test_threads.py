"""The variable that says how many threads a training on a CPU takes."""

import os
import subprocess
import sys

import pytest
import torch

from nnunet_semisam import threads
from nnunet_semisam.errors import UserError


def test_threads_reach_nnunet():
    code = "from nnunet_semisam import threads as t; t.limit_threads(); import multiprocessing as p; "
    code += "print(p.cpu_count())"
    environment = os.environ | {threads.THREADS: "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.check_output([sys.executable, "-c", code], env=environment, text=True).strip() == "7"


def test_a_trainer_takes_no_more_threads_than_asked(build_trainer, monkeypatch):
    """``nnUNetv2_train -device cpu`` sets one per core before it builds the trainer, whatever OMP_NUM_THREADS says."""
    before = torch.get_num_threads()
    monkeypatch.setenv(threads.THREADS, "3")
    try:
        build_trainer()
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_without_the_variable_nnunets_number_stays(build_trainer, monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.delenv(threads.THREADS, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(2)
    try:
        build_trainer()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("value", ["0", "-1", "all", "1.5"])
def test_another_value_is_refused(value, monkeypatch):
    monkeypatch.setenv(threads.THREADS, value)
    with pytest.raises(UserError, match="a whole number, 1 or more"):
        threads.asked_threads()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not say which cores a job has")
def test_the_cores_are_those_of_the_job_not_of_the_machine(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.delenv(threads.THREADS, raising=False)
    monkeypatch.delenv(threads.AUGMENTERS, raising=False)
    assert threads.shared_cores(2, with_gpu=False) == {threads.AUGMENTERS: "4", threads.THREADS: "4"}
