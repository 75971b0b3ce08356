"""Json files that are there as a whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


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
