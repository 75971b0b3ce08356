"""Reading weights that strangers made, safely, and writing our own, atomically."""

from __future__ import annotations

import hashlib
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nnunet_semisam.errors import UserError
from nnunet_semisam.io.atomic import open_atomically
from nnunet_semisam.sam.download import download
from nnunet_semisam.sam.families import FAMILIES, family

FOLDER_VARIABLE = "nnUNet_sam"
PACKAGED_WEIGHTS = Path(__file__).resolve().parent / "nano" / "weights" / FAMILIES["nano"].file


def read_state(path: Path) -> dict[str, Any]:
    """Read a file of tensors and plain types; code in it is never run.

    Args:
        path: File written by ``torch.save``.

    Returns:
        What was saved, tensors on the CPU.

    Raises:
        UserError: If the file is truncated or damaged, or holds more than tensors and plain types.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{path} is not a file of plain weights: {reason} Only tensors and plain types are read, because a pickle "
            "can run any code. Get the weights from their official source, or save a bare state dict."
        ) from error
    except (RuntimeError, EOFError, zipfile.BadZipFile, ValueError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{path} ({path.stat().st_size} bytes) cannot be read ({reason or type(error).__name__}). It is likely "
            "truncated or damaged: delete it and get it again."
        ) from error
    if not isinstance(state, dict):
        raise UserError(f"{path} holds a {type(state).__name__}; a state dict (name -> tensor) is needed.")
    return state


def save_atomically(state: dict[str, Any], path: Path) -> None:
    """Write ``state`` so that ``path`` is at all times either the old file or the new one, whole."""
    with open_atomically(path) as file:
        torch.save(state, file)


def find_weights(model: str, checkpoint: str | None, fetch: bool = True) -> Path:
    """Return the file with the weights of a model.

    Args:
        model: A name in ``FAMILIES``.
        checkpoint: The setting ``checkpoint`` in the model's block; if given, only this file counts.
        fetch: Whether published weights may be downloaded to ``$nnUNet_sam``.

    Raises:
        UserError: If there is no such file; the message says where it was looked for and how to get it.
    """
    row, folder = family(model), os.environ.get(FOLDER_VARIABLE)
    if checkpoint is not None:
        path = Path(checkpoint).expanduser()
        if not path.is_file():
            raise UserError(
                f"The setting {model}: {{checkpoint: ...}} names {path}, which is no file. {how_to_get(model)}"
            )
        return path
    if row.url is None:
        if not PACKAGED_WEIGHTS.is_file():
            raise UserError(
                f"The weights of {model} are missing from the installed package ({PACKAGED_WEIGHTS}). Install "
                "nnunet-semisam again, or train some with `nnunet-semisam sam pretrain` and name "
                f"the file in the settings, {model}: {{checkpoint: ...}}."
            )
        return PACKAGED_WEIGHTS
    if not folder:
        raise UserError(
            f"No weights for the SAM model {model!r}: the setting {model}: {{checkpoint: ...}} is not set and "
            f"neither is the environment variable {FOLDER_VARIABLE}. {how_to_get(model)}"
        )
    path = Path(folder).expanduser() / row.file
    if path.is_file():
        return path
    if not fetch:
        raise UserError(f"No weights for the SAM model {model!r} at {path}. {how_to_get(model)}")
    return download(row, path.parent)


def how_to_get(model: str) -> str:
    """Return a sentence that says how to get the weights of ``model``."""
    row = family(model)
    if row.url is None:
        return f"Leave the setting {model}: {{checkpoint: ...}} out to use the weights in the package."
    return (
        f"Set {FOLDER_VARIABLE} to a folder and run `nnunet-semisam sam download {model}`, or get {row.url} by hand "
        f"and name the file in the settings, {model}: {{checkpoint: ...}}."
    )


def load_weights(model: nn.Module, path: Path, name: str) -> str:
    """Load a bare state dict and return the hex digest of its values.

    Args:
        model: Gets the weights, in its own precision.
        path: File written by ``torch.save``.
        name: What ``model`` is called, for messages.

    Raises:
        UserError: If the file is unreadable or does not fit the model; the first differences are named.
    """
    state, wanted = read_state(path), model.state_dict()
    problems = [f"{key} is missing" for key in wanted if key not in state]
    problems += [f"{key} is unknown" for key in state if key not in wanted]
    problems += [
        f"{key} is {_shape(state[key])} instead of {_shape(value)}"
        for key, value in wanted.items()
        if key in state and _shape(state[key]) != _shape(value)
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise UserError(
            f"{path} does not hold weights of the SAM model {name!r}: {'; '.join(problems[:3])}{more}. "
            f"Name the model that the file is of in sam: {{models: [...]}}, or give another file. {how_to_get(name)}"
        )
    model.load_state_dict(state)
    return digest(state)


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, torch.Tensor) else type(value).__name__


def digest(state: dict[str, torch.Tensor]) -> str:
    """Return the SHA-256 of names, types and values of a state dict, as a hex digest."""
    total = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        total.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        total.update(value.view(-1).view(torch.uint8).numpy().data if value.numel() else b"")
    return total.hexdigest()
