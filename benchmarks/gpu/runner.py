"""Run tasks one after the other within a time, and keep what each has found: the next call goes on.

``gpu.json`` holds one record per task: ``status`` (done, unfinished, failed), ``seconds`` of its last start,
``attempts``, ``machine`` and ``figures``; beside them ``summary``, the ratios.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu.pieces import JSON, SECONDS, Task
from benchmarks.gpu.summary import summary
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.json_files import object_or_none, read_object, write_json

RESULT_FILE = "gpu.json"
DONE, UNFINISHED, FAILED = "done", "unfinished", "failed"
GRACE_SECONDS = 10
SHOWN = 2000  # characters of a failed task's output
REMEDY = "Remove it to measure everything again."


@dataclass
class Record:
    """All results so far.

    Attributes:
        path: Their file.
        tasks: By name.
    """

    path: Path
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, earlier: Path | None = None) -> Record:
        """Read a record, if there is one, and take over what an earlier one has and this has not.

        Raises:
            UserError: If a file is damaged.
        """
        here = _tasks_of(path) if path.is_file() else {}
        taken = _tasks_of(earlier) if earlier is not None else {}
        taken = {name: task for name, task in taken.items() if task["status"] == DONE}
        begun = {name: task for name, task in here.items() if task["status"] == DONE or name not in taken}
        return cls(path, taken | begun)

    def status(self, task: Task) -> str | None:
        """Return how far a task is; ``None`` if it was never begun."""
        return self.tasks.get(task.name, {}).get("status")

    def add(self, task: Task, entry: Mapping[str, Any]) -> None:
        """Write what a start of a task has come to; figures of an earlier start stay where this one found none."""
        before = self.tasks.get(task.name, {})
        figures = entry.get("figures") or before.get("figures")
        self.tasks[task.name] = {**entry, "figures": figures, "attempts": before.get("attempts", 0) + 1}
        self.write()

    def write(self) -> None:
        """Write all, with the ratios."""
        write_json(self.path, {"tasks": self.tasks, "summary": summary(self.tasks)})


def _tasks_of(path: Path) -> dict[str, dict[str, Any]]:
    tasks = read_object(path, REMEDY).get("tasks")
    if not isinstance(tasks, dict) or not all(isinstance(t, dict) and "status" in t for t in tasks.values()):
        raise UserError(f"{path} holds no record of measurements, as run.sh writes it. {REMEDY}")
    return tasks


def in_turn(tasks: Sequence[Task], record: Record) -> list[Task]:
    """Return the tasks that are not done: in their order, but those that failed after the others."""
    left = [task for task in tasks if record.status(task) != DONE]
    return sorted(left, key=lambda task: record.status(task) == FAILED)


def run_tasks(
    tasks: Sequence[Task],
    record: Record,
    state: Path,
    seconds: float,
    machine: Mapping[str, Any],
    say: Callable[[str], object] = print,
) -> None:
    """Run what is not done until time is up.

    Args:
        tasks: In order.
        record: Receives results.
        state: Folder for logs and caches.
        seconds: Time for all.
        machine: Kept with every result.
        say: Receives a line for each task.
    """
    ends_at = time.monotonic() + seconds
    for task in in_turn(tasks, record):
        left = ends_at - time.monotonic()
        if left < task.least_seconds:
            say(f"{task.name}: not begun, {left:.0f} s are left")
            break
        start = time.monotonic()
        entry = run_task(task, state, left)
        entry |= {"seconds": round(time.monotonic() - start, 1), "machine": dict(machine)}
        record.add(task, entry)
        say(f"{task.name}: {entry['status']}, {entry['seconds']:.0f} s {entry.get('error', '')}".rstrip())


def run_task(task: Task, state: Path, seconds: float) -> dict[str, Any]:
    """Run one task for so many seconds at most, and return its status and figures."""
    log, result = state / "logs" / f"{task.name}.log", state / "results" / f"{task.name}.json"
    for path in (log, result):
        path.parent.mkdir(parents=True, exist_ok=True)
    result.unlink(missing_ok=True)
    places = {JSON: str(result), SECONDS: f"{seconds:.0f}"}
    command = [places.get(word, word) for word in task.command]
    status = _run(command, log, seconds)
    figures = object_or_none(result)
    if status is None:
        return {"status": UNFINISHED, "error": f"stopped after {seconds:.0f} s", "figures": figures}
    if status != 0 or figures is None:
        text = log.read_text(errors="replace")[-SHOWN:]
        return {"status": FAILED, "error": f"status {status}: {text}", "figures": figures}
    return {"status": DONE if figures.get("finished", True) else UNFINISHED, "figures": figures}


def _run(command: Sequence[str], log: Path, seconds: float) -> int | None:
    """Return a command's exit status; ``None`` if it was stopped, with all that it has started."""
    caches = {"TORCHINDUCTOR_CACHE_DIR": str(log.parents[1] / "inductor"), "MPLBACKEND": "Agg"}
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **caches}, start_new_session=True
        )
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end(process)


def _end(process: subprocess.Popen) -> None:
    """End what is left of a command's own process group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
            if number == signal.SIGTERM:
                continue
            return


def machine_of(state: Path, device: str) -> dict[str, Any]:
    """Return what this machine is now; what it lacks is looked for until nothing is found.

    Args:
        state: Folder of the kit on this machine.
        device: Of the measurements, ``cuda`` or ``cpu``.

    Raises:
        SystemExit: If it lacks a package, the device, or what is needed to compile for it.
    """
    complete = state / f"complete_for_{device}"
    command = [sys.executable, "-m", "benchmarks.gpu.machine", device, *(["--known"] if complete.is_file() else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr.strip()[-SHOWN:])
    complete.touch()
    return json.loads(done.stdout.splitlines()[-1])


def bring_home(state: Path, out: Path) -> None:
    """Copy results and logs of failed tasks to where they are fetched from; few files, none in folders."""
    out.mkdir(parents=True, exist_ok=True)
    shutil.copy2(state / RESULT_FILE, out / RESULT_FILE)
    with (out / "logs.txt").open("w") as file:
        for log in sorted((state / "logs").glob("*.log")):
            file.write(f"==== {log.stem}\n{log.read_text(errors='replace')[-20_000:]}\n")
    weights = state / "work" / "nano" / "nano_sam.pt"
    if weights.is_file():
        shutil.copy2(weights, out / weights.name)
