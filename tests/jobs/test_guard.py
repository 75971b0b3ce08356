"""Commands that know nothing of us end with the process that started them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path


def test_a_command_of_somebody_else_ends_with_the_demo_that_started_it(tmp_path):
    pid = tmp_path / "pid"
    sleeper = f"import os, time, pathlib; pathlib.Path({str(pid)!r}).write_text(str(os.getpid())); time.sleep(600)"
    code = (
        "import os, sys; from pathlib import Path; from nnunet_semisam.jobs import processes; "
        f"processes.run_logged([sys.executable, '-m', 'nnunet_semisam.jobs.guard', sys.executable, '-c', {sleeper!r}], "
        f"os.environ, Path({str(tmp_path / 'log')!r}))"
    )
    demo = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    end = time.monotonic() + 60
    while not (pid.exists() and pid.read_text()):
        assert time.monotonic() < end
        time.sleep(0.05)
    demo.send_signal(signal.SIGKILL)
    demo.wait()
    while _alive(int(pid.read_text())):
        assert time.monotonic() < end, "a training outlived its demo"
        time.sleep(0.1)


def _alive(process: int) -> bool:
    found = subprocess.run(["ps", "-p", str(process), "-o", "stat="], capture_output=True, text=True, check=False)
    return bool(found.stdout.strip()) and not found.stdout.strip().startswith("Z")
