"""Tasks that train nothing, for tests of executors; jobs of a cluster import them from here."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from nnunet_semisam.benchmark import processes
from nnunet_semisam.benchmark.tasks import BUSY, FAILED, STARTED


@dataclass(frozen=True)
class Note:
    """Writes where it ran: a variable of its own environment, or else of the place that it was given."""

    folder: Path
    name: str
    seconds: float = 0.0
    variable: str | None = None

    def __call__(self, variables=None):
        time.sleep(self.seconds)
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / self.name).open("a") as file:
            place = (variables or {}).get("CUDA_VISIBLE_DEVICES", "")
            file.write((os.environ.get(self.variable, "none") if self.variable else place) + "\n")
        return "done"


@dataclass(frozen=True)
class Long:
    """Runs a command of a minute at every start but the last, and writes down what it found at each."""

    folder: Path
    name: str
    starts: int

    def command(self, number: int) -> int:
        """Return the process of a command."""
        return int((self.folder / f"command_{number}").read_text())

    def __call__(self, variables=None):
        with processes.lock(self.folder) as mine:
            number = len(list(self.folder.glob("start_*.json")))
            running = [before for before in range(number) if alive(self.command(before))]
            content = {"job": os.getpid(), "still_running": running, "locked": mine}
            (self.folder / f"start_{number}.json").write_text(json.dumps(content))
            if not mine:
                return BUSY
            if number == self.starts - 1:
                return "done"
            target = self.folder / f"command_{number}"
            words = ["sh", "-c", f"echo $$ > {target}.tmp; mv {target}.tmp {target}; exec sleep 60"]
            code = processes.run_logged(words, os.environ, self.folder / "log")
            return STARTED if code in processes.STOPPED else FAILED


def alive(process: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    found = subprocess.run(["ps", "-p", str(process), "-o", "stat="], capture_output=True, text=True, check=False)
    return bool(found.stdout.strip()) and not found.stdout.startswith("Z")
