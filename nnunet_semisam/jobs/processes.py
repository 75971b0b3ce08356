"""Commands in processes of their own that do not outlive the process that started them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from nnunet_semisam.jobs.parent import PARENT

SHOWN_LINES = 30
# Statuses of a command that was asked to end. A cluster signals all processes of a job, the command's own included.
_ASKING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)]
STOPPED = (*(-number for number in _ASKING), 128 + signal.SIGINT)
KILLED = -int(getattr(signal, "SIGKILL", 9))  # Windows has no such signal

_running: set[subprocess.Popen] = set()
_stopping = threading.Event()


class CommandFailedError(Exception):
    """A command has ended with another status than 0.

    Attributes:
        stage: What the command was for.
        status: Its exit status; negative for the signal that ended it.
    """

    def __init__(self, stage: str, status: int, log: str) -> None:
        super().__init__(log)
        self.stage, self.status = stage, status


def run_checked(
    command: Sequence[str], environment: Mapping[str, str], log: Path, stage: str, title: str | None = None
) -> None:
    """Run a command as :func:`run_logged` does, and raise if it fails.

    Args:
        command: The words of the command line.
        environment: All variables of the command.
        log: File that its output is added to.
        stage: What the command is for.
        title: What the command is called in the message; ``stage`` if not given.

    Raises:
        CommandFailedError: If its exit status is not 0; the message holds the end of the log.
    """
    status = run_logged(command, environment, log)
    if status != 0:
        why = " (killed, most likely for lack of memory)" if status == KILLED else ""
        message = f"{end_of(log)}\n{title or stage} ended with status {status}{why}"
        raise CommandFailedError(stage, status, message)


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
    """Return whether :func:`stop_all` was called: what fails now has not failed by itself."""
    return _stopping.is_set()


def end_of(log: Path, lines: int = SHOWN_LINES) -> str:
    """Return the last lines of a log file."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]) if log.is_file() else ""


def _kill(process: subprocess.Popen) -> None:
    if process.returncode is None:  # later the number may be that of another process
        with contextlib.suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
