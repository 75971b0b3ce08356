"""Trainings on a device that refuses tensors of the CPU, as a GPU does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import other_device
import pytest

TRAININGS = Path(__file__).with_name("trainings_elsewhere.py")


@pytest.mark.parametrize("chosen", ["every_method", "not every_method"])  # two parts, for two workers
def test_trainings_elsewhere(chosen):
    """In a process of their own: once it has computed gradients, a process takes no further device."""
    if not other_device.IS_POSSIBLE:
        pytest.skip("this torch has no devices that are written in Python")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    pytest_here = Path(sys.executable).with_name("pytest")
    words = [str(pytest_here), "-q", "-p", "no:cacheprovider", "--show-capture=no", "-k", chosen, str(TRAININGS)]
    done = subprocess.run(words, env=environment, cwd=TRAININGS.parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
