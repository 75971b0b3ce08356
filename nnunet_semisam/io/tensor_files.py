"""Files that ``torch.save`` wrote: tensors and plain types, and never code."""

from __future__ import annotations

import argparse
import os
import pickle
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_semisam.errors import UserError, name_some, printable
from nnunet_semisam.io.regular_files import check_regular_file

NUMBERS = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "b1")  # as numpy pickles them
FORCE_VARIABLE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # torch's own


def numpy_scalar_types() -> list[Any]:
    """Return numpy's scalars as types that may be in a file: nnU-Net 2.8.1 and others put them into a training's log.

    The function that rebuilds them is pickled under another name by numpy 1.
    """
    scalar = np.float64(0).__reduce__()[0]
    dtypes = [type(np.dtype(name)) for name in ("float64", "float32", "float16", "int64", "int32", "bool")]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    return [(_dtype_of_a_number, "numpy.dtype"), *dtypes, *((scalar, name) for name in names)]


def _dtype_of_a_number(name: str, *more: Any) -> np.dtype:
    """Stand for ``numpy.dtype`` in a file: only for numbers, since a void type may be of any size."""
    if name not in NUMBERS:
        raise pickle.UnpicklingError(f"it holds numpy values of the type {printable(repr(name), 50)}.")
    return np.dtype(name, *more)


def types_of_training() -> list[Any]:
    """Return the types that scripts write beside weights: their options, and a log of numpy's scalars; all harmless."""
    return [argparse.Namespace, *numpy_scalar_types()]


def read_tensors(
    path: str | Path,
    remedy: str,
    harmless_types: Sequence[Any] = (),
    most_bytes: int | None = None,
    in_memory: bool = True,
) -> dict[Any, Any]:
    """Return the dict in a file of tensors and plain types, tensors on the CPU; code in it is never run.

    Args:
        path: The file.
        remedy: What to do if it is missing or damaged, for the error.
        harmless_types: Types beyond torch's own that may be in it.
        most_bytes: Largest size that is read; ``None`` allows any.
        in_memory: Whether values are read now; else they stay in the file until they are used, for whoever wants
            names and shapes only.

    Raises:
        UserError: If it is no regular file, too large, truncated or damaged, holds other types, or no dict.
    """
    import torch

    size = check_regular_file(path, remedy, most_bytes)
    check_checksums(path, remedy)
    try:
        with torch.serialization.safe_globals(list(harmless_types)):
            lazy = not in_memory and zipfile.is_zipfile(path)  # files of torch 1.5 and older can only be read whole
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=lazy or None)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is no file of plain weights: {_why_refused(error)}. Only tensors and plain types are read, "
            f"because a pickle can run any code. {remedy}"
        ) from error
    except MemoryError as error:
        raise UserError(f"{path} ({size} bytes) does not fit into memory. {remedy}") from error
    except Exception as error:  # the reader of pickles raises what the bytes make it raise
        raise UserError(
            f"{path} ({size} bytes) cannot be read ({_first_line(error)}). It is likely truncated or damaged. {remedy}"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}; a dict (name -> tensor) is needed. {remedy}")
    if in_memory:  # who wants shapes only allocates nothing
        _check_tensors(content, path, remedy)
    return content


def _check_tensors(content: Any, path: str | Path, remedy: str) -> None:
    """Refuse tensors that are no plain array of their own values: a few bytes could declare more than memory holds.

    Raises:
        UserError: If there is one, however deep.
    """
    import torch

    left, seen = [content], set()
    while left:
        value = left.pop()
        if isinstance(value, torch.Tensor):
            plain = value.layout == torch.strided and not value.is_meta and not value.is_quantized
            if not plain or value.numel() * value.element_size() > value.untyped_storage().nbytes():
                raise UserError(
                    f"{path} declares a tensor of shape {tuple(value.shape)} whose values are not in the file. {remedy}"
                )
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            left += value.values() if isinstance(value, dict) else value


@contextmanager
def loading_only_tensors() -> Iterator[None]:
    """Let ``torch.load`` read tensors and plain types only, whoever calls it and whatever that caller asks for.

    Example:
        >>> with loading_only_tensors():
        ...     os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"]
        '1'
    """
    import torch

    before = os.environ.get(FORCE_VARIABLE)
    os.environ[FORCE_VARIABLE] = "1"
    try:
        with torch.serialization.safe_globals(types_of_training()):
            yield
    finally:
        if before is None:
            del os.environ[FORCE_VARIABLE]
        else:
            os.environ[FORCE_VARIABLE] = before


def check_checksums(path: str | Path, remedy: str) -> None:
    """Refuse a file of ``torch.save`` that changed on its disk: torch compares no checksum and reads noise.

    Files that are no zip archive (torn ones, and those of torch 1.5 and older) are left to torch.

    Raises:
        UserError: If a part does not have its checksum, or would unfold to more than the file holds.
    """
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            packed = [part for part in archive.infolist() if part.compress_type != zipfile.ZIP_STORED]
            problem = "it is packed, and torch.save never packs" if packed else None
            damaged = None if packed else archive.testzip()
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
        problem, damaged = _first_line(error), None
    if damaged is not None:
        problem = f"the checksum of {printable(damaged)} is wrong"
    if problem is not None:
        raise UserError(f"{path} is damaged: {problem}. {remedy}")


def check_finite(state: Mapping[str, Any], path: str | Path, remedy: str) -> None:
    """Refuse weights with NaN or infinite values: a network with one of them predicts nothing, without a word.

    Raises:
        UserError: If there are any; the first are named.
    """
    import torch

    wrong = [
        str(name)
        for name, value in state.items()
        if isinstance(value, torch.Tensor)
        and (value.is_floating_point() or value.is_complex())
        and not torch.isfinite(value).all()
    ]
    if wrong:
        raise UserError(
            f"{path} holds values that are not finite (NaN or infinite) in {name_some(wrong, 5)}. Weights like these "
            f"come from a training that diverged or a damaged file. {remedy}"
        )


def _why_refused(error: pickle.UnpicklingError) -> str:
    """Return torch's reason alone: the text around it says how to let the file run its code."""
    parts = [part.strip() for part in str(error).split("\n\n")]
    if not parts[0].startswith("Weights only load failed"):
        return _first_line(error).rstrip(".")
    reasons = [part for part in parts[1:] if part and not part.startswith("Check the documentation")]
    return printable((reasons or ["its pickle is of an unknown kind"])[0].splitlines()[0].rstrip("."), 300)


def _first_line(error: Exception) -> str:
    return printable((str(error).strip() or type(error).__name__).splitlines()[0], 300)
