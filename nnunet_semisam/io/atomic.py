"""Write a file or a folder whole or not at all: the one way in which this package replaces what is on a disk."""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import hashlib
import os
import platform
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

TEMPORARY_SUFFIX = ".tmp"
TEMPORARY_NAME = re.compile(r"\.(?P<target>.+)\.(?P<process>[0-9]+)-(?P<host>[0-9a-f]{4})[0-9a-f]{8}\.tmp(\..+)?")
HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:4]  # a number of a process says nothing on another machine
OLD_SECONDS = 24 * 3600.0
BUSY_SECONDS = 2.0


def temporary_beside(path: Path) -> Path:
    """Return an unused hidden name in the folder of ``path``: ``.NAME.<unique>.tmp``.

    Hidden, so that nothing that lists data takes it for data; in the same folder, so that a rename is atomic.
    """
    return path.with_name(f".{path.name}.{os.getpid()}-{HOST}{uuid.uuid4().hex[:8]}{TEMPORARY_SUFFIX}")


@contextlib.contextmanager
def open_atomically(path: str | Path, mode: str = "wb", encoding: str | None = None) -> Iterator[IO]:
    """Open a file for writing; ``path`` holds the old content until the block has ended, and the new one after it.

    The content is flushed to the disk before the rename, so that a power cut leaves one of the two as well. If the
    block raises, ``path`` stays as it was and the temporary file is removed.

    Args:
        path: The file. Its folder must exist.
        mode: ``wb``, ``w``.
        encoding: For text; UTF-8 if not given.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with open_atomically(folder / "note.txt", "w") as file:
        ...     _ = file.write("whole or not at all")
        >>> (folder / "note.txt").read_text()
        'whole or not at all'
    """
    path = Path(path)
    temporary = temporary_beside(path)
    text = "b" not in mode
    try:
        with open(
            temporary, mode, encoding=(encoding or "utf-8") if text else None, newline="" if text else None
        ) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, UTF-8, by way of :func:`open_atomically`."""
    with open_atomically(path, "w") as file:
        file.write(text)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a binary file by way of :func:`open_atomically`."""
    with open_atomically(path) as file:
        file.write(content)


def write_symlink(path: str | Path, target: Path) -> None:
    """Make ``path`` a symbolic link to ``target``, also where another link or a file is.

    Where the system lets this user make no links (Windows), it is a copy.
    """
    path = Path(path)
    temporary = temporary_beside(path)
    try:
        try:
            temporary.symlink_to(target)
        except OSError:
            if os.name != "nt":
                raise
            shutil.copyfile(target, temporary)
        replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replaced_file(path: str | Path) -> Iterator[Path]:
    """Give a name to write to, for libraries that open files themselves; rename it to ``path`` after the block.

    The temporary name ends like ``path``, since libraries choose a format by the ending.
    """
    path = Path(path)
    ending = "".join(path.suffixes[-2:]) if path.name.endswith(".nii.gz") else path.suffix
    temporary = temporary_beside(path)
    temporary = temporary.with_name(temporary.name + ending)
    try:
        yield temporary
        flush(temporary)
        replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def put_in_place(finished: Path, path: Path) -> None:
    """Rename a file that is whole to its name: for files that grow over several runs, as downloads do."""
    flush(finished)
    replace(finished, path)


@contextlib.contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Give a temporary folder beside ``path`` and rename it to ``path`` after the block; remove it if that raises.

    Raises:
        FileExistsError: If ``path`` exists and is not an empty folder: a folder is made once, never merged.
    """
    path = Path(path)
    _refuse_existing(path)
    temporary = temporary_beside(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        _refuse_existing(path)
        if path.is_dir():
            path.rmdir()  # Windows does not rename over a folder, not even an empty one
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _refuse_existing(path: Path) -> None:
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(f"{path} exists already.")


def remove_temporaries(folder: str | Path, pattern: str = "*") -> None:
    """Delete the temporary files and folders that killed processes left in ``folder``.

    Args:
        folder: Where to look. No process must be writing there at this moment.
        pattern: Which targets: the temporary files of ``note.txt`` are found with ``note.txt`` and with ``*.txt``.
    """
    _remove(folder, pattern, lambda leftover, match: True)


def remove_leftovers_of_the_dead(folder: str | Path, target: str) -> None:
    """Delete what processes of this machine that do not live any more left of one file or folder.

    For targets that another process, of this machine or another one, may be writing at this moment. What a process of
    another machine left is deleted when it is a day old: whether that one lives cannot be seen from here.

    Args:
        folder: Where to look.
        target: Name of the file or folder that they were writing.
    """

    def dead(leftover: Path, match: re.Match[str]) -> bool:
        if match["host"] == HOST:
            return not _lives(int(match["process"]))
        return time.time() - leftover.lstat().st_mtime > OLD_SECONDS

    _remove(folder, glob.escape(target), dead)


def _remove(folder: str | Path, pattern: str, chosen: Callable[[Path, re.Match[str]], bool]) -> None:
    for leftover in Path(folder).glob(f".*{TEMPORARY_SUFFIX}*"):
        match = TEMPORARY_NAME.fullmatch(leftover.name)
        if match is None or not fnmatch.fnmatchcase(match["target"], pattern):
            continue
        with contextlib.suppress(OSError):  # of somebody else, or gone since
            if not chosen(leftover, match):
                continue
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink()


def _lives(process: int) -> bool:
    """Return whether a process lives, or nobody can tell."""
    if os.name == "nt":  # there the question itself would end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def flush(path: Path) -> None:
    """Let a file reach the disk; Windows does that only for one that is open for writing."""
    with open(path, "r+b" if os.name == "nt" else "rb") as file:
        os.fsync(file.fileno())


def replace(source: Path, target: Path) -> None:
    """Rename a file over another one; Windows refuses it while a virus scanner reads either, which ends soon."""
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if os.name != "nt" or time.monotonic() > end:
                raise
            time.sleep(0.05)
