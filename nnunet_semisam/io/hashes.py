"""SHA-256 of files, texts and plain values: the one way in which this package names content."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

BLOCK_BYTES = 2**20


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content as hexadecimal digits.

    Raises:
        OSError: If the file cannot be read, or is none: a pipe would be waited for.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "no regular file", str(path))
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def sha256_of_bytes(*parts: bytes) -> str:
    """Return the SHA-256 of bytes, one part after the other, as hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def sha256_of_text(text: str) -> str:
    """Return the SHA-256 of a text in UTF-8 as hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_of_json(content: Any) -> str:
    """Return the SHA-256 of plain values, whatever the order of their keys, as hexadecimal digits.

    Example:
        >>> sha256_of_json({"a": 1, "b": 2}) == sha256_of_json({"b": 2, "a": 1})
        True
    """
    return sha256_of_text(json.dumps(content, sort_keys=True))
