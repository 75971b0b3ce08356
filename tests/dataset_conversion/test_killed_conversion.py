"""A conversion that is killed at any moment leaves no dataset, or a whole one; the same command goes on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_nnunet import write_raw
from written_files import visible

HERE = Path(__file__).parent
# Kills itself at the Nth of all calls that write; prints how many there were if it comes to its end.
SCRIPT = """
import itertools, os, signal, sys
from nnunet_semisam.commands.convert import load_package
load_package()
from nnunet_semisam import cli
from nnunet_semisam.dataset_conversion.writing import writer

moment, calls = int(sys.argv[1]), itertools.count(1)

def counted(function):
    def call(*args, **kwargs):
        if next(calls) == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return call

for name in ("copyfile",):
    setattr(__import__("shutil"), name, counted(getattr(__import__("shutil"), name)))
for name in ("fsync", "replace", "rename", "mkdir"):
    setattr(os, name, counted(getattr(os, name)))
status = cli.main(sys.argv[2:])
print("calls:", next(calls) - 1)
sys.exit(status)
"""


@pytest.fixture
def run(tmp_path, raw):
    source = write_raw(tmp_path / "Dataset007_Heart")
    words = ["convert", "nnunet", "-i", str(source), "--labeled", "2", "--val", "1"]

    def run(moment: int) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", SCRIPT, str(moment), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))

    return run


@pytest.mark.skipif(os.name != "posix", reason="no SIGKILL")
def test_conversion_that_is_killed_goes_on(run, raw, tmp_path):
    whole = run(0)
    assert whole.returncode == 0, whole.stderr
    calls = int(whole.stdout.split("calls:")[1])
    folder = raw / "Dataset500_Heart"
    files = json.loads((folder / "semisam_manifest.json").read_text())["files"]
    folder.rename(tmp_path / "first")
    for moment in (2, calls // 3, 2 * calls // 3, calls - 1, calls):
        assert run(moment).returncode == -9
        assert not folder.exists() or json.loads((folder / "semisam_manifest.json").read_text())["files"] == files
    again = run(0)
    assert again.returncode == 0, again.stderr
    assert visible(raw) == [folder.name]
    assert json.loads((folder / "semisam_manifest.json").read_text())["files"] == files
