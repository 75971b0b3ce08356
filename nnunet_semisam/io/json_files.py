"""Json files: read with an error that names them, written as a whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_semisam.errors import UserError


def read_object(path: Path, remedy: str) -> dict[str, Any]:
    """Return the content of a json file that somebody else may have written.

    Args:
        path: The file.
        remedy: What to do if it is damaged, for the error.

    Raises:
        UserError: If it cannot be read, or holds something else than an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as json ({error}). {remedy}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold an object, got {type(content).__name__}. {remedy}")
    return content


def write_json(path: Path, content: Any) -> None:
    """Write json by way of a temporary file in the same folder and one rename."""
    write_json_files({path: content})


def write_json_files(contents: Mapping[Path, Any]) -> None:
    """Write several json files: all of them or, if one cannot be written, none.

    Each is renamed from a temporary file in its folder, so that a reader never sees a part of one.
    """
    temporary = {path: path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in contents}
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
            os.replace(temporary[path], path)
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
        path.write_bytes(content)
