"""Executors with tasks that only write a file: order, GPUs, commands that are ended."""

import os
import signal
import subprocess
import sys
import threading
import time

from little_tasks import Note

from nnunet_semisam import threads as cores
from nnunet_semisam.jobs import executors, processes


def test_serial_keeps_the_order(tmp_path, report, told):
    executors.serial([Note(tmp_path / name, name) for name in "cab"], report)
    assert told == [("c", "done"), ("a", "done"), ("b", "done")]


def test_local_shares_gpus_out_and_runs_side_by_side(tmp_path, report, told):
    barrier = threading.Barrier(2, timeout=20)

    class Together(Note):
        def work(self, variables):
            barrier.wait()  # passes only if two run at once
            super().work(variables)

    executors.local([Together(tmp_path / str(i), str(i)) for i in range(4)], report, workers=2, gpus=["3", "5"])
    assert sorted(told) == [(str(i), "done") for i in range(4)]
    assert {(tmp_path / str(i) / str(i)).read_text().strip() for i in range(4)} == {"3", "5"}


def test_measurements_have_the_machine_to_themselves(tmp_path, report, told):
    alone = threading.Lock()

    class Alone(Note):
        def work(self, variables):
            assert alone.acquire(blocking=False)
            time.sleep(0.05)
            super().work(variables)
            alone.release()

    tasks = [Alone(tmp_path / str(i), str(i)) for i in range(3)]
    executors.local(tasks, report, workers=2, gpus=["3", "5"], one_at_a_time=True)
    assert sorted(told) == [(str(i), "done") for i in range(3)]


def test_processes_share_the_cores(monkeypatch):
    """Each takes processes for augmentation; on a CPU threads, too."""
    augmenters = cores.AUGMENTERS
    for name in (cores.THREADS, augmenters):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cores, "usable_cores", lambda: 8)
    assert executors._places(3, []) == [{cores.THREADS: "2", augmenters: "2"}] * 3
    assert executors._places(1, []) == [{}]
    assert executors._places(1, ["3"]) == [{"CUDA_VISIBLE_DEVICES": "3"}]
    assert executors._places(3, ["0", "1"])[2] == {"CUDA_VISIBLE_DEVICES": "0", augmenters: "2"}
    monkeypatch.setenv(cores.THREADS, "1")  # the user's own wish
    monkeypatch.setenv(augmenters, "4")
    assert executors._places(3, []) == [{}] * 3
    monkeypatch.delenv(augmenters)
    monkeypatch.setattr(cores, "usable_cores", lambda: 96)
    assert executors._places(4, list("0123"))[3] == {"CUDA_VISIBLE_DEVICES": "3", augmenters: "12"}


def test_no_command_begins_once_all_were_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_stopping", threading.Event())
    processes.stop_all()
    status = processes.run_logged(["touch", str(tmp_path / "begun")], os.environ, tmp_path / "log")
    assert status in processes.STOPPED
    assert not (tmp_path / "begun").exists()


def test_interrupted_command_is_ended_with_its_workers(tmp_path, monkeypatch):
    code = "import subprocess, sys, time; subprocess.Popen(['sleep', '60']); print('ready', flush=True); time.sleep(60)"
    failures = []

    def run():
        failures.append(processes.run_logged([sys.executable, "-c", code], os.environ, tmp_path / "log"))

    thread = threading.Thread(target=run)
    thread.start()
    while "ready" not in processes.end_of(tmp_path / "log"):
        time.sleep(0.05)
    (process,) = processes._running
    monkeypatch.setattr(processes, "_stopping", threading.Event())
    processes.stop_all()
    thread.join(10)
    assert failures == [-signal.SIGKILL]
    assert processes.stopping()
    deadline = time.monotonic() + 20  # a killed process may need a moment to be gone where all cores are taken
    while (left := alive_in_session(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []


def alive_in_session(session: int) -> list[str]:
    found = subprocess.run(["ps", "-s", str(session), "-o", "stat="], capture_output=True, text=True, check=False)
    return [state for state in found.stdout.split() if not state.startswith("Z")]
