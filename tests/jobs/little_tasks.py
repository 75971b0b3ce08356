"""Tasks that train nothing, for tests of executors; jobs of a cluster import them from here."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from nnunet_semisam.io.locks import folder_lock
from nnunet_semisam.jobs import processes
from nnunet_semisam.jobs.base import Task


@dataclass(frozen=True)
class Note(Task):
    """Writes where it ran: a variable of its own environment, or else of the place that it was given."""

    folder: Path
    name: str
    seconds: float = 0.0
    variable: str | None = None

    def finished(self):
        return (self.folder / self.name).exists()

    def work(self, variables):
        time.sleep(self.seconds)
        place = variables.get("CUDA_VISIBLE_DEVICES", "")
        text = os.environ.get(self.variable, "none") if self.variable else place
        (self.folder / self.name).write_text(text + "\n")


@dataclass(frozen=True)
class Long(Task):
    """Runs a command of a minute at every start but the last, and writes down what it found at each."""

    folder: Path
    name: str
    starts: int

    def command(self, number: int) -> int:
        """Return the process of a command."""
        return int((self.folder / f"command_{number}").read_text())

    def finished(self):
        return len(list(self.folder.glob("start_*.json"))) == self.starts

    def work(self, variables):
        number = len(list(self.folder.glob("start_*.json")))
        running = [before for before in range(number) if alive(self.command(before))]
        with folder_lock(self.folder, wait=False) as free:
            content = {"job": os.getpid(), "still_running": running, "locked": not free}
        (self.folder / f"start_{number}.json").write_text(json.dumps(content))
        if number < self.starts - 1:
            target = self.folder / f"command_{number}"
            words = ["sh", "-c", f"echo $$ > {target}.tmp; mv {target}.tmp {target}; exec sleep 60"]
            processes.run_checked(words, os.environ, self.folder / "log", "sleep")


def alive(process: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    found = subprocess.run(["ps", "-p", str(process), "-o", "stat="], capture_output=True, text=True, check=False)
    return bool(found.stdout.strip()) and not found.stdout.startswith("Z")
