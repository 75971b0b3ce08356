"""A task goes on where it stopped, belongs to one process at a time, and fails alone."""

import json
import os
import signal
import sys
import threading

import pytest
from little_tasks import Note

from nnunet_semisam.errors import UserError
from nnunet_semisam.io.locks import folder_lock
from nnunet_semisam.jobs import processes
from nnunet_semisam.jobs.base import Job, Status, TaskError
from nnunet_semisam.jobs.executors import serial


@pytest.fixture
def job(tmp_path):
    """Return a function that makes a job of lines of Python; it is done when the file ``result`` is there."""
    folder = tmp_path / "job"
    return lambda code, **more: Job("job", folder, (sys.executable, "-c", code), folder / "result", **more)


def write_result(tmp_path):
    return f"open({str(tmp_path / 'job' / 'result')!r}, 'w').close()"


def test_a_job_is_done_when_its_result_is_there_and_is_not_repeated(job, tmp_path):
    task = job(f"print('ran'); {write_result(tmp_path)}")
    assert task.status() == Status.NEW
    assert (task(), task(), task.status()) == (Status.DONE,) * 3
    assert task.log.read_text() == "ran\n"


def test_a_job_gets_its_environment_and_the_place_wins(job, tmp_path, monkeypatch):
    monkeypatch.setenv("C", "process")
    code = f"import os; print(os.environ['A'], os.environ['B'], os.environ['C']); {write_result(tmp_path)}"
    task = job(code, environment={"A": "job", "B": "job"})
    assert task({"B": "place"}) == Status.DONE
    assert task.log.read_text() == "job place process\n"


def test_a_failed_job_says_why_and_may_be_started_again(job, tmp_path):
    task = job(f"import os, sys; os.path.exists('{tmp_path}/repaired') or sys.exit('broken'); {write_result(tmp_path)}")
    assert (task(), task.status()) == (Status.FAILED, Status.FAILED)
    error = TaskError.read(task.folder)
    assert (error.stage, error.status) == ("command", 1)
    assert error.log == "broken\ncommand ended with status 1"
    (tmp_path / "repaired").touch()
    assert (task(), task.status()) == (Status.DONE, Status.DONE)
    assert TaskError.read(task.folder) is None


def test_a_command_that_dies_after_its_work_has_done_it(job, tmp_path):
    assert job(f"{write_result(tmp_path)}; raise SystemExit(1)")() == Status.DONE


def test_a_job_without_error_and_without_result_has_failed(job):
    task = job("pass")
    assert task() == Status.FAILED
    assert "without a result" in TaskError.read(task.folder).log


def test_an_interrupted_job_has_not_failed(job):
    task = job("import os, signal; os.kill(os.getpid(), signal.SIGTERM)")
    assert (task(), task.status()) == (Status.STARTED, Status.STARTED)


def test_a_task_that_another_process_has_is_left_alone(job, tmp_path):
    task = job(write_result(tmp_path))
    with folder_lock(task.folder, wait=False):
        assert task() == Status.BUSY
    assert task.status() == Status.NEW


@pytest.mark.parametrize(
    ("error", "log"),
    [
        (UserError("Add the file."), "Add the file."),
        (OSError(28, "No space left on device", "/a"), "No space left on device: /a. Mend that, and start again."),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
    ],
)
def test_whatever_is_raised_fails_the_task_alone(tmp_path, error, log):
    class Broken(Note):
        def work(self, variables):
            raise error

    task = Broken(tmp_path / "a", "a")
    assert task() == Status.FAILED
    assert TaskError.read(task.folder).log.splitlines()[-1] == log


def test_a_folder_that_cannot_be_made_fails_the_task_alone(tmp_path, caplog):
    (tmp_path / "a").write_text("no folder")
    done: dict[str, Status] = {}
    serial([Note(tmp_path / "a", "a"), Note(tmp_path / "b", "b")], done.__setitem__)
    assert done == {"a": Status.FAILED, "b": Status.DONE}
    assert "cannot be made a folder" in caplog.text  # there is no place to write it down


@pytest.mark.parametrize("text", ['{"stage": 1, "status": "x", "log": null}', '{"stage": "a"}', "[]", "{"])
def test_a_damaged_error_file_is_no_error(tmp_path, text):
    (tmp_path / "error.json").write_text(text)
    assert TaskError.read(tmp_path) is None


def test_a_folder_in_place_of_the_error_file_is_no_obstacle(tmp_path):
    task = Note(tmp_path / "a", "a")
    (task.folder / "error.json").mkdir(parents=True)
    assert task() == Status.DONE


def test_what_a_signal_handler_raises_is_no_error_of_the_task(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_stopping", threading.Event())

    class Interrupted(Note):
        def work(self, variables):
            processes.stop_all()
            raise RuntimeError("timed-out too many times")

    with pytest.raises(RuntimeError, match="timed-out"):
        Interrupted(tmp_path / "a", "a")()
    assert not (tmp_path / "a" / "error.json").exists()


@pytest.mark.parametrize("content", ["", "{", "{}", "[]"])
def test_a_torn_error_is_no_error(tmp_path, content):
    (tmp_path / "error.json").write_text(content)
    assert TaskError.read(tmp_path) is None


def test_an_error_on_a_full_disk_is_not_raised(tmp_path, monkeypatch):
    def full(*of_file):
        raise OSError("No space left on device")

    monkeypatch.setattr("nnunet_semisam.jobs.base.write_json", full)
    TaskError("command", 1, "log").write(tmp_path)


def test_a_status_is_its_word_in_text_and_json():
    assert f"{Status.BUSY}" == str(Status.BUSY) == "running elsewhere"
    assert json.dumps([Status.DONE]) == '["done"]'


def test_a_command_that_was_killed_says_what_is_most_likely(tmp_path):
    words = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    with pytest.raises(processes.CommandFailedError, match=r"nnU-Net ended with status -9 \(killed, .* memory\)") as e:
        processes.run_checked(words, os.environ, tmp_path / "log", "train", "nnU-Net")
    assert (e.value.stage, e.value.status) == ("train", -signal.SIGKILL)
