"""A conversion that is killed at any moment leaves no dataset, or a whole one; the same command goes on."""

import json
import os

import killed_conversion
import prepared_process
import pytest
from fake_nnunet import write_raw
from written_files import visible


@pytest.fixture
def run(tmp_path, raw):
    """Return a function that converts and is killed at a call; it returns the exit status and what was printed."""
    source = write_raw(tmp_path / "Dataset007_Heart")
    words = ["convert", "nnunet", "-i", str(source), "--labeled", "2", "--val", "1"]

    def run(moment: int) -> tuple[int, str]:
        log = tmp_path / "log"
        status = prepared_process.run(killed_conversion.convert, moment, words, environment=os.environ, log=log)
        return status, log.read_text()

    return run


@pytest.mark.skipif(os.name != "posix", reason="no SIGKILL")
def test_conversion_that_is_killed_goes_on(run, raw, tmp_path):
    status, printed = run(0)
    assert status == 0, printed
    calls = int(printed.split("calls:")[1])
    folder = raw / "Dataset500_Heart"
    files = json.loads((folder / "semisam_manifest.json").read_text())["files"]
    folder.rename(tmp_path / "first")
    for moment in (2, calls // 3, 2 * calls // 3, calls - 1, calls):
        assert run(moment)[0] == -9
        assert not folder.exists() or json.loads((folder / "semisam_manifest.json").read_text())["files"] == files
    status, printed = run(0)
    assert status == 0, printed
    assert visible(raw) == [folder.name]
    assert json.loads((folder / "semisam_manifest.json").read_text())["files"] == files
