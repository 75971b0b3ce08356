"""One process at a time in a folder; where there are no locks, somebody is told."""

import fcntl
import logging
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from nnunet_semisam.io.locks import LOCK_FILE, folder_lock

HOLDER = """
import sys, time
from pathlib import Path
from nnunet_semisam.io.locks import folder_lock
with folder_lock(sys.argv[1], wait=False) as mine:
    print(mine, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that has the folder until its input ends."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-c", HOLDER, str(tmp_path)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout.readline().strip() == "True"
    yield process
    process.kill()
    process.communicate()


def test_another_process_is_excluded_until_the_lock_ends(tmp_path, holder):
    with folder_lock(tmp_path, wait=False) as mine:
        assert not mine
    holder.communicate("")
    with folder_lock(tmp_path, wait=False) as mine:
        assert mine


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with folder_lock(tmp_path, wait=False) as mine:
        assert mine


def test_a_forked_worker_that_outlives_its_parent_holds_no_lock(tmp_path):
    """Workers of a loader may live on for a while after a training was killed; it must be able to go on."""
    code = """
import os, sys, time
from nnunet_semisam.io.locks import folder_lock
ready, tell = os.pipe()
with folder_lock(sys.argv[1], wait=False) as mine:
    worker = os.fork()
    if worker == 0:
        os.write(tell, b"1")
        time.sleep(60)
        os._exit(0)
    os.read(ready, 1)
    print(mine, worker, flush=True)
    os._exit(0)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
        mine, worker = process.stdout.readline().split()
        process.wait()
        try:
            assert mine == "True"
            with folder_lock(tmp_path, wait=False) as ours:
                assert ours
        finally:
            os.kill(int(worker), signal.SIGKILL)


def test_who_waits_says_so_and_gets_the_folder(tmp_path, holder, caplog):
    times = []

    def wait():
        with folder_lock(tmp_path, wait=True) as mine:
            times.append((mine, time.monotonic()))

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    released = time.monotonic()
    holder.communicate("")
    thread.join(20)
    ((mine, when),) = times
    assert mine
    assert when >= released
    assert f"Another process works on {tmp_path}: waiting for it." in caplog.text


def test_the_same_process_does_not_get_a_folder_twice(tmp_path):
    with folder_lock(tmp_path, wait=False) as first, folder_lock(tmp_path, wait=False) as second:
        assert (first, second) == (True, False)
    with folder_lock(tmp_path, wait=False) as later:
        assert later


def test_the_folder_is_made_and_holds_a_hidden_file_only(tmp_path):
    with folder_lock(tmp_path / "a" / "b", wait=False) as mine:
        assert mine
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == [LOCK_FILE]


def test_locks_of_different_names_do_not_exclude_each_other(tmp_path):
    with folder_lock(tmp_path, wait=False, name=".a") as first, folder_lock(tmp_path, wait=False, name=".b") as second:
        assert (first, second) == (True, True)


def test_a_block_that_raises_frees_the_folder(tmp_path):
    with pytest.raises(ValueError, match="inside"), folder_lock(tmp_path, wait=False):
        raise ValueError("inside")
    with folder_lock(tmp_path, wait=False) as mine:
        assert mine


@pytest.mark.parametrize("wait", [True, False])
def test_a_file_system_without_locks_lets_pass_and_warns(tmp_path, monkeypatch, caplog, wait):
    def no_locks(*of_file):
        raise OSError("No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with caplog.at_level(logging.WARNING), folder_lock(tmp_path, wait=wait) as mine:
        assert mine
    assert "cannot be locked (No locks available): run one command at a time" in caplog.text


def test_a_file_of_another_user_is_locked_through_reading(tmp_path, holder, monkeypatch):
    """In a shared folder the lock file is writable for who made it alone."""
    original = os.open

    def refuses_writing(path, flags, *more, **options):
        if flags & os.O_WRONLY:
            raise PermissionError(13, "Permission denied", str(path))
        return original(path, flags, *more, **options)

    monkeypatch.setattr(os, "open", refuses_writing)
    with folder_lock(tmp_path, wait=False) as mine:
        assert not mine
    holder.communicate("")
    with folder_lock(tmp_path, wait=False) as mine:
        assert mine


def test_a_system_without_locks_lets_pass_and_warns(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with folder_lock(tmp_path, wait=False) as mine:
        assert mine
    assert "no file locks: run one command at a time" in caplog.text
