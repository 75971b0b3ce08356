"""Tasks: work that keeps its state in a folder of its own, and goes on where it stopped."""

from __future__ import annotations

import logging
import os
import shutil
import traceback
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from nnunet_semisam.errors import UserError
from nnunet_semisam.io.json_files import object_or_none, write_json
from nnunet_semisam.io.locks import folder_lock
from nnunet_semisam.jobs import processes

ERROR_FILE = "error.json"
LOGGER = logging.getLogger(__name__)


class Status(str, Enum):
    """What is known of a task."""

    NEW = "new"
    STARTED = "started"
    """It was begun and has not ended, or it was interrupted: start it again."""
    DONE = "done"
    FAILED = "failed"
    """``error.json`` in its folder says why."""
    BUSY = "running elsewhere"
    """Another process has its folder."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class TaskError:
    """Why a task failed: the content of ``error.json``.

    Attributes:
        stage: Part of the task that failed.
        status: Exit status of the command; ``None`` if no command failed.
        log: The end of its output, or a message.
    """

    stage: str
    status: int | None
    log: str

    @classmethod
    def read(cls, folder: Path) -> TaskError | None:
        """Return the error of a task, or ``None`` if there is none or a power cut has torn it."""
        content = object_or_none(folder / ERROR_FILE)
        stage, status, log = ((content or {}).get(name) for name in ("stage", "status", "log"))
        if not isinstance(stage, str) or not isinstance(log, str) or not isinstance(status, (int, type(None))):
            return None
        return cls(stage, status, log)

    def write(self, folder: Path) -> None:
        """Write the error down. On a full disk not even that is possible: then it is said, and failed all the same."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / ERROR_FILE, asdict(self))
        except OSError:
            LOGGER.warning("%s: %s", folder.name, self.log.strip().splitlines()[-1])


class Task(ABC):
    """Work with a folder of its own. Subclasses say what it is (:meth:`work`) and when it is done (:meth:`finished`).

    Tasks must be picklable: they travel to other processes and machines.

    Attributes:
        name: For messages; unique among the tasks that are carried out together.
        folder: Where the task keeps its state. Every machine that may carry it out must see it.
    """

    name: str
    folder: Path

    @abstractmethod
    def finished(self) -> bool:
        """Return whether nothing is left to do; it is asked before and after :meth:`work`."""

    @abstractmethod
    def work(self, variables: Mapping[str, str]) -> None:
        """Do what is left to do. Everything it raises fails this task and no other.

        Args:
            variables: Environment variables that its commands must be given, such as ``CUDA_VISIBLE_DEVICES``.
        """

    def needs(self) -> Mapping[str, Any]:
        """Return what submitit must ask a cluster for, on top of what it asks for all tasks: ``{"mem_gb": 64}``."""
        return {}

    def started(self) -> bool:
        """Return whether the task was begun before: whether it has left a log."""
        return any(self.folder.glob("*.log"))

    def status(self) -> Status:
        """Return what the folder says of the task; whether it runs at this moment is not looked at."""
        if self.finished():
            return Status.DONE
        if (self.folder / ERROR_FILE).is_file():
            return Status.FAILED
        return Status.STARTED if self.started() else Status.NEW

    def __call__(self, variables: Mapping[str, str] | None = None) -> Status:
        """Carry the task out from where it stopped, unless it is finished or another process has it.

        Args:
            variables: See :meth:`work`.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:  # a file in its place, a full disk, no right to write: the other tasks must go on
            return self._failed("prepare", f"{self.folder} cannot be made a folder ({error.strerror or error}).")
        with folder_lock(self.folder, wait=False) as mine:
            if not mine:
                return Status.BUSY
            if self.finished():
                return Status.DONE
            return self._attempt(dict(variables or {}))

    def _attempt(self, variables: Mapping[str, str]) -> Status:
        try:
            remove(self.folder / ERROR_FILE)
            self.work(variables)
        except processes.CommandFailedError as failure:
            if self.finished():  # it died after its work was done
                return Status.DONE
            if processes.stopping() or failure.status in processes.STOPPED:
                return Status.STARTED
            return self._failed(failure.stage, str(failure), failure.status)
        except UserError as error:
            return self._failed("prepare", str(error))
        except OSError as error:  # a full disk, for example
            if processes.stopping():
                raise
            place = f": {error.filename}" if error.filename is not None else ""
            return self._failed("work", f"{error.strerror or error}{place}. Mend that, and start again.")
        except Exception as error:  # whatever it is, of files, readers or metrics: the other tasks must go on
            if processes.stopping():  # not this task's fault
                raise
            lines = "".join(traceback.format_exception(error)).splitlines()
            return self._failed("work", "\n".join(lines[-processes.SHOWN_LINES :]))
        if not self.finished():
            return self._failed("work", f"{self.name} has ended without a result, and without an error.")
        return Status.DONE

    def _failed(self, stage: str, log: str, status: int | None = None) -> Status:
        TaskError(stage, status, log).write(self.folder)
        return Status.FAILED


def remove(path: Path) -> None:
    """Remove a file, or a folder that somebody put in its place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Job(Task):
    """A task that is one command line. See the example of :mod:`nnunet_semisam.jobs`.

    Attributes:
        name: See :class:`Task`.
        folder: See :class:`Task`.
        command: The words of the command line.
        result: File or folder that is there as soon as the job is done. The command should rename it into place.
        environment: Variables on top of those of the process that carries the job out.
        resources: See :meth:`Task.needs`.
    """

    name: str
    folder: Path
    command: tuple[str, ...]
    result: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, Any] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """Return the file with the command's output, all starts one after the other."""
        return self.folder / "job.log"

    def finished(self) -> bool:
        """Return whether the result is there."""
        return self.result.exists()

    def needs(self) -> Mapping[str, Any]:
        """Return ``resources``."""
        return self.resources

    def work(self, variables: Mapping[str, str]) -> None:
        """Run the command.

        Raises:
            CommandFailedError: If it ends with another status than 0.
        """
        environment = {**os.environ, **self.environment, **variables}
        processes.run_checked(self.command, environment, self.log, stage="command")
