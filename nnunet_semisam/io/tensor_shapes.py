"""Names and shapes of the tensors in a file of weights, without their values in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_semisam.errors import UserError, shown
from nnunet_semisam.io.regular_files import MIB, check_regular_file
from nnunet_semisam.io.tensor_files import read_tensors, types_of_training

Shapes = dict[str, tuple[int, ...]]
SAFETENSORS = ".safetensors"
HEADER_LENGTH_BYTES = 8
MOST_HEADER_BYTES = 64 * MIB


def read_shapes(path: str | Path, remedy: str) -> dict[str, Shapes]:
    """Return the shapes of all tensors in a file of ``torch.save`` or safetensors; code in it is never run.

    Args:
        path: The file.
        remedy: What to do if it is missing or damaged, for the error.

    Returns:
        Shapes by name, for each dict in the file under its key; under the empty text those of the file's own dict.

    Raises:
        UserError: If the file cannot be read.
    """
    if Path(path).suffix == SAFETENSORS:
        return {"": _shapes_of_safetensors(Path(path), remedy)}
    return shapes_of(read_tensors(path, remedy, types_of_training(), in_memory=False))


def shapes_of(content: Mapping[Any, Any]) -> dict[str, Shapes]:
    """Return the shapes of the tensors in a dict and in the dicts that it holds; see :func:`read_shapes`.

    Example:
        >>> import torch
        >>> shapes_of({"epoch": 3, "model": {"weight": torch.zeros(2, 4)}})
        {'': {}, 'model': {'weight': (2, 4)}}
    """
    inner = {str(key): _shapes(value) for key, value in content.items() if isinstance(value, Mapping)}
    return {"": _shapes(content), **inner}


def _shapes(content: Mapping[Any, Any]) -> Shapes:
    import torch

    return {str(key): tuple(value.shape) for key, value in content.items() if isinstance(value, torch.Tensor)}


def _shapes_of_safetensors(path: Path, remedy: str) -> Shapes:
    """Read the header: its length in 8 bytes, little endian, and json. Source: github.com/huggingface/safetensors."""
    size = check_regular_file(path, remedy)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(HEADER_LENGTH_BYTES), "little")
        if not 0 < length <= min(MOST_HEADER_BYTES, size - HEADER_LENGTH_BYTES):
            raise UserError(f"{path} is no safetensors file: its header would have {length} bytes. {remedy}")
        header = file.read(length)
    try:
        content = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no safetensors file: its header is no json. {remedy}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is no safetensors file: its header holds a {type(content).__name__}. {remedy}")
    return {name: _shape(about, path, remedy) for name, about in content.items() if name != "__metadata__"}


def _shape(about: Any, path: Path, remedy: str) -> tuple[int, ...]:
    shape = about.get("shape") if isinstance(about, dict) else None
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise UserError(f"{path} is no safetensors file: a shape in its header is {shown(shape)}. {remedy}")
    return tuple(shape)
