"""Json files: read with an error that names them, written as a whole or not at all."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nnunet_semisam.errors import UserError, printable
from nnunet_semisam.io.atomic import replace, temporary_beside, write_bytes
from nnunet_semisam.io.regular_files import MIB, check_regular_file, read_text

MOST_BYTES = 256 * MIB  # a benchmark's results of thousands of runs, with room
MOST_LINE = 16 * MIB
SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(path: str | Path, remedy: str, most_bytes: int = MOST_BYTES) -> Any:
    """Return the content of a json file that somebody else may have written.

    Args:
        path: The file.
        remedy: What to do if it is missing or damaged, for the error.
        most_bytes: Largest size that is read.

    Raises:
        UserError: If it is no regular file, too large, no json, nested too deep, names a key twice in an object, or
            holds half of a surrogate pair, which no file name and no output can hold.
    """
    text = read_text(path, remedy, most_bytes)
    try:
        return _parse(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as json ({printable(str(error))}). {remedy}") from error


def read_object(path: str | Path, remedy: str, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """Return the content of a json file that must hold an object; see :func:`read_json`.

    Raises:
        UserError: If it cannot be read, or holds something else than an object.
    """
    content = read_json(path, remedy, most_bytes)
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold an object, got {type(content).__name__}. {remedy}")
    return content


def object_or_none(path: str | Path) -> dict[str, Any] | None:
    """Return the object in a json file; ``None`` if it is missing, torn by a power cut, or holds no object.

    For files that can be made again or done without.
    """
    try:
        return read_object(path, "")
    except UserError:
        return None


def read_json_lines(path: str | Path, damaged: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file with one json object a line (``.jsonl``); none if the file does not exist.

    A last line without an end is what a killed process left: it is passed over. Any other damaged line is too, since
    each line stands for itself.

    Args:
        path: The file.
        damaged: Gets a sentence per damaged line, but for a last one without an end.

    Raises:
        UserError: If it is no regular file.
    """
    path = Path(path)
    if not os.path.lexists(path):
        return
    check_regular_file(path, "Remove it.")
    with open(path, encoding="utf-8", errors="replace") as file:
        number = 0
        while line := file.readline(MOST_LINE):
            number += 1
            try:
                content = _parse(line)
            except (ValueError, RecursionError):
                content = None
            if isinstance(content, dict):
                yield content
            elif damaged is not None and line.strip() and line.endswith("\n"):
                damaged.append(f"line {number} is no json object")


def _parse(text: str) -> Any:
    """Parse json; a key that is named twice in an object is an error, since one of the two values would be lost."""
    content = json.loads(text, object_pairs_hook=_object)
    if SURROGATE_ESCAPE.search(text):  # as good as never: whole pairs are fine, halves are not
        json.dumps(content, ensure_ascii=False).encode()
    return content


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise ValueError(f"{next(name for name, count in counts.items() if count > 1)!r} is named twice")
    return content


def append_json_line(path: str | Path, content: Mapping[str, Any]) -> None:
    """Append one object as a line and flush it to the disk; on a full disk the file stays as it was."""
    line = json.dumps(content, allow_nan=False, separators=(",", ":")) + "\n"
    with open(path, "ab") as file:
        before = file.tell()
        if before > 0 and not _ends_with_newline(Path(path)):
            line = "\n" + line  # behind what a killed process tore
        try:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            os.truncate(path, before)
            raise


def _ends_with_newline(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def write_json(path: Path, content: Any) -> None:
    """Write json by way of a temporary file in the same folder and one rename."""
    write_json_files({path: content})


def write_json_files(contents: Mapping[Path, Any]) -> None:
    """Write several json files: all of them or, if one cannot be written, none.

    Each is renamed from a temporary file in its folder, so that a reader never sees a part of one.
    """
    temporary = {path: temporary_beside(path) for path in contents}
    before = {path: path.read_bytes() if path.is_file() else None for path in contents}
    renamed: list[Path] = []
    try:
        for path, content in contents.items():
            with temporary[path].open("w", encoding="utf-8") as file:
                json.dump(content, file, indent=2)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
        for path in contents:
            replace(temporary[path], path)
            renamed.append(path)
    except BaseException:
        for path in renamed:
            _restore(path, before[path])
        raise
    finally:
        for each in temporary.values():
            each.unlink(missing_ok=True)


def _restore(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink(missing_ok=True)
    else:
        write_bytes(path, content)
