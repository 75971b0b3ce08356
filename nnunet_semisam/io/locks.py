"""One process at a time in a folder: the one lock of this package. It never fails without a word."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

LOCK_FILE = ".lock"
LOGGER = logging.getLogger(__name__)
_HELD: set[IO[str]] = set()


def _let_go_in_child() -> None:
    """Close what a forked process got of its parent: a worker that outlives it would hold its locks."""
    for file in _HELD:
        file.close()
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)


def _open(path: Path) -> IO:
    wait_for_no_pipe = getattr(os, "O_NONBLOCK", 0)
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | wait_for_no_pipe, 0o666), "a")
    except PermissionError:  # of another user: who may read it can lock it, too
        return os.fdopen(os.open(path, os.O_RDONLY | wait_for_no_pipe))


@contextlib.contextmanager
def folder_lock(folder: str | Path, *, wait: bool, name: str = LOCK_FILE) -> Iterator[bool]:
    """Hold a folder for this process. The lock ends with the process, however that ends.

    Args:
        folder: The folder; it is made if it does not exist, and gets a hidden file.
        wait: Wait for a process that has it (a warning says so), or give False at once.
        name: Name of the hidden file: locks of different names do not exclude each other.

    Yields:
        Whether the folder is ours. Where the system or the file system has no locks (Windows, some network file
        systems) or the folder is read-only it is True, and a warning says that nothing is locked.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:
        LOGGER.warning("This system has no file locks: run one command at a time on %s.", folder)
        yield True
        return
    try:
        file = _open(folder / name)
    except OSError as error:
        LOGGER.warning("%s cannot be locked (%s): run one command at a time on it.", folder, error)
        yield True
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                yield False
                return
            LOGGER.warning("Another process works on %s: waiting for it.", folder)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            LOGGER.warning("%s cannot be locked (%s): run one command at a time on it.", folder, error)
        _HELD.add(file)
        try:
            yield True
        finally:
            _HELD.discard(file)
