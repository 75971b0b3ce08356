"""Commands in processes of their own that do not outlive the benchmark."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

SHOWN_LINES = 30
STOPPED = (-signal.SIGINT, -signal.SIGTERM, 128 + signal.SIGINT)

_running: set[subprocess.Popen] = set()
_stopping = threading.Event()


def run_logged(command: Sequence[str], environment: Mapping[str, str], log: Path) -> int:
    """Run a command, add its output to a log file, and return its exit status.

    The command leads a group of its own, so that its workers can be ended with it.
    """
    with log.open("ab") as file:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        _running.add(process)
        try:
            return process.wait()
        except BaseException:
            _end(process)
            raise
        finally:
            _running.discard(process)


def stop_all() -> None:
    """End all commands that run now, and let no other begin."""
    _stopping.set()
    for process in list(_running):
        _end(process)


def stopping() -> bool:
    """Return whether the benchmark is being ended: what fails now has not failed by itself."""
    return _stopping.is_set()


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[bool]:
    """Hold a folder for this process; give False if another process has it.

    The lock ends with the process, however that ends. Where the system has no such locks, nothing is locked.
    """
    try:
        import fcntl
    except ImportError:
        yield True
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:  # a file system without locks
            pass
        yield True


def end_of(log: Path, lines: int = SHOWN_LINES) -> str:
    """Return the last lines of a log file."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]) if log.is_file() else ""


def _end(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
