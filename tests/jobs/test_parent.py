"""A training whose runner was killed at once does not train on, though it had not come to look for its parent."""

import os
import subprocess
import sys
import time

from little_tasks import alive

STANDS_FOR_NNUNET = """
import time
from pathlib import Path
def run_training_entry():
    Path("begun").touch()
    time.sleep(4)
    Path("trained").touch()
"""
SLOW_START = """
import os, sys, time
from pathlib import Path
benchmark = int(sys.argv[1])
Path("pid.tmp").write_text(str(os.getpid()))
os.replace("pid.tmp", "pid")
while os.getppid() == benchmark:
    time.sleep(0.01)
from nnunet_semisam.benchmark import measured
measured.main(["report.json", "train", "-device", "cpu"])
"""
BENCHMARK = """
import os, sys
from pathlib import Path
from nnunet_semisam.jobs import processes
processes.run_logged([sys.executable, "-c", sys.argv[1], str(os.getpid())], os.environ, Path("log"))
"""


def test_killed_before_its_training_has_started_the_benchmark_leaves_no_orphan(tmp_path):
    (tmp_path / "nnunetv2" / "run").mkdir(parents=True)
    for folder in ("nnunetv2", "nnunetv2/run"):
        (tmp_path / folder / "__init__.py").touch()  # else the real package would win
    (tmp_path / "nnunetv2" / "run" / "run_training.py").write_text(STANDS_FOR_NNUNET)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    benchmark = subprocess.Popen([sys.executable, "-c", BENCHMARK, SLOW_START], cwd=tmp_path, env=environment)
    end = time.monotonic() + 60
    while not (tmp_path / "pid").exists():
        assert time.monotonic() < end, "no training"
        time.sleep(0.02)
    benchmark.kill()
    benchmark.wait()
    training = int((tmp_path / "pid").read_text())
    while alive(training):
        assert time.monotonic() < end, "the orphan lives"
        time.sleep(0.05)
    assert not (tmp_path / "begun").exists(), (tmp_path / "log").read_text()
