"""Commands in processes of their own that do not outlive the benchmark."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from nnunet_semisam.benchmark.parent import PARENT

SHOWN_LINES = 30
LOCK_FILE = ".lock"
# Statuses of a command that was asked to end. A cluster signals all processes of a job, the command's own included.
_ASKING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)]
STOPPED = (*(-number for number in _ASKING), 128 + signal.SIGINT)

_running: set[subprocess.Popen] = set()
_stopping = threading.Event()


def run_logged(command: Sequence[str], environment: Mapping[str, str], log: Path) -> int:
    """Run a command, add its output to a log file, and return its exit status.

    The command leads a group of its own, so that its workers can be ended with it. Once :func:`stop_all` was called,
    no command begins: the status is that of one that was asked to end.
    """
    if _stopping.is_set():
        return -signal.SIGTERM
    with log.open("ab") as file:
        process = subprocess.Popen(
            command,
            env={**environment, PARENT: str(os.getpid())},
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        _running.add(process)
        try:
            if _stopping.is_set():  # it began while all others were ended
                _kill(process)
            return process.wait()
        except BaseException:
            _kill(process)
            process.wait()
            raise
        finally:
            _running.discard(process)


def stop_all() -> None:
    """End all commands that run now, and let no other begin.

    Who started a command waits for it, not this function: as part of a signal handler it may have interrupted just
    that wait, which holds a lock that a second wait would never get.
    """
    _stopping.set()
    for process in list(_running):
        _kill(process)


def stopping() -> bool:
    """Return whether the benchmark is being ended: what fails now has not failed by itself."""
    return _stopping.is_set()


@contextlib.contextmanager
def lock(folder: Path, wait: bool = False) -> Iterator[bool]:
    """Hold a folder for this process; give False if another process has it.

    The lock ends with the process, however that ends. Where the system has no such locks, nothing is locked.

    Args:
        folder: The folder, which gets a hidden file.
        wait: Wait for another process instead, for something that takes moments.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:
        yield True
        return
    with (folder / LOCK_FILE).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        except OSError:  # a file system without locks
            pass
        yield True


def end_of(log: Path, lines: int = SHOWN_LINES) -> str:
    """Return the last lines of a log file."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]) if log.is_file() else ""


def _kill(process: subprocess.Popen) -> None:
    if process.returncode is None:  # later the number may be that of another process
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
