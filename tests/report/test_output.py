"""A page is written whole or not at all, and never over what it is made of."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from invented import Shape, make_benchmark

from nnunet_semisam import cli
from nnunet_semisam.io.atomic import HOST
from nnunet_semisam.report import output

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("small") / "benchmark"
    make_benchmark(path, Shape(patients=1, frames=1, epochs=2, seeds=(0,)))
    return path


@pytest.fixture
def copied(small, tmp_path):
    shutil.copytree(small, tmp_path / "benchmark")
    return tmp_path / "benchmark"


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "name",
    [
        "results.json",
        "results.csv",
        "study.json",
        "leakage.json",
        ".lock",
        "runs/../results.json",
        "runs/nnUNetTrainerSemiSAM__2d__fold_0__seed_0/scores.json",
        "runs/new.html",
        "held_out/test/images/q0_frame01_0000.nii.gz",
        "timing/page.html",
    ],
)
def test_nothing_of_the_benchmark_is_overwritten(name, copied, capsys):
    before = files(copied)
    assert cli.main(["report", "-i", str(copied), "-o", str(copied / name)]) == 2
    assert "belongs to the benchmark" in capsys.readouterr().err
    assert files(copied) == before


def test_nothing_of_the_benchmark_is_overwritten_by_way_of_a_link(copied, capsys):
    (copied.parent / "link").symlink_to(copied)
    path = copied.parent / "link" / "results.json"
    assert cli.main(["report", "-i", str(copied), "-o", str(path)]) == 2
    assert "belongs to the benchmark" in capsys.readouterr().err


def test_pipes_devices_and_folders_stay_what_they_are(copied, capsys):
    os.mkfifo(copied.parent / "pipe")
    (copied.parent / "null").symlink_to("/dev/null")
    for path, kind in ((copied.parent / "pipe", "a pipe"), (copied.parent / "null", "a device"), (copied, "a folder")):
        before = path.lstat()
        assert cli.main(["report", "-i", str(copied), "-o", str(path)]) == 2
        assert f"is {kind}" in capsys.readouterr().err
        assert (path.lstat().st_mode, path.lstat().st_ino) == (before.st_mode, before.st_ino)


@pytest.mark.parametrize("name", ["page.html/below.html", "n" * 300, "new/" + "n" * 300, "new/deep/" + "n" * 300])
def test_what_cannot_be_written_is_said_and_leaves_no_folder(name, copied, capsys):
    (copied.parent / "page.html").write_text("old")
    before = files(copied.parent)
    assert cli.main(["report", "-i", str(copied), "-o", str(copied.parent / name)]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert files(copied.parent) == before
    assert not (copied.parent / "new").exists()


@pytest.mark.parametrize("option", [[], ["--markdown"], ["--csv"]])
def test_on_a_full_disk_the_old_page_stays(option, copied, small_disk, capsys):
    (small_disk / "filler").write_bytes(bytes(_free(small_disk) - 4096))
    path = small_disk / "page"
    path.write_text("old")
    assert cli.main(["report", "-i", str(copied), "-o", str(path), *option]) == 2
    assert "cannot be written (No space left on device). Choose another -o" in capsys.readouterr().err
    assert path.read_text() == "old"
    assert sorted(one.name for one in small_disk.iterdir()) == ["filler", "page"]


def _free(folder):
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def test_a_link_is_replaced_and_what_it_leads_to_stays(copied):
    """A benchmark that somebody sent may hold a link where the page is to be."""
    (copied.parent / "mine").write_text("mine")
    (copied / "report.html").symlink_to(copied.parent / "mine")
    assert cli.main(["report", "-i", str(copied)]) == 0
    assert (copied.parent / "mine").read_text() == "mine"
    assert not (copied / "report.html").is_symlink()


def test_what_a_killed_report_left_is_removed_and_what_others_write_is_not(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    names = [
        f".p.html.{dead.pid}-{HOST}01234567.tmp",
        f".p.html.{os.getpid()}-{HOST}01234567.tmp",
        f".x.html.{dead.pid}-{HOST}01234567.tmp",
    ]
    for name in names:
        (tmp_path / name).write_text("half a page")
    output.write_output(b"page", tmp_path / "p.html")
    assert [(tmp_path / name).exists() for name in names] == [False, True, True]


def start(folder, path):
    words = [sys.executable, "-m", "nnunet_semisam.cli", "report", "-i", str(folder), "-o", str(path)]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    return subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.slow
def test_a_killed_report_leaves_the_old_page_or_the_new_one(copied):
    path = copied.parent / "page.html"
    path.write_text("old")
    began = time.monotonic()
    assert start(copied, path).wait() == 0
    seconds = time.monotonic() - began
    whole = len(path.read_bytes())
    before = files(copied)
    chance = random.Random(0)
    for _ in range(4):
        path.write_text("old")
        process = start(copied, path)
        time.sleep(chance.uniform(0.3, 1.05) * seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert path.read_text() == "old" or abs(len(path.read_bytes()) - whole) < 100
        assert files(copied) == before
    assert start(copied, path).wait() == 0
    assert path.read_text().rstrip().endswith("</html>")


@pytest.mark.slow
def test_two_reports_at_once_leave_one_whole_page(copied):
    path = copied / "report.html"
    assert [process.wait() for process in [start(copied, path), start(copied, path)]] == [0, 0]
    assert path.read_text().rstrip().endswith("</html>")
    assert not list(copied.glob(".report*"))
