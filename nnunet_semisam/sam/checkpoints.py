"""Reading weights that strangers made, safely, and writing our own, atomically."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nnunet_semisam.errors import UserError
from nnunet_semisam.io.atomic import open_atomically
from nnunet_semisam.io.regular_files import MIB, check_regular_file
from nnunet_semisam.io.tensor_files import check_finite, read_tensors, types_of_training
from nnunet_semisam.io.tensor_shapes import shapes_of
from nnunet_semisam.sam.detect import family_of, of_another_model
from nnunet_semisam.sam.download import download
from nnunet_semisam.sam.families import AUTO, FAMILIES, family
from nnunet_semisam.sam.family import Family

State = dict[str, Any]
FOLDER_VARIABLE = "nnUNet_sam"
PACKAGED_WEIGHTS = Path(__file__).resolve().parent / "nano" / "weights" / FAMILIES["nano"].file


def save_atomically(state: dict[str, Any], path: Path) -> None:
    """Write ``state`` so that ``path`` is at all times either the old file or the new one, whole."""
    with open_atomically(path) as file:
        torch.save(state, file)


def find_weights(model: str, checkpoint: str | None, fetch: bool = True) -> Path:
    """Return the file (or the folder, of models that may be one) with the weights of a model.

    Args:
        model: A name in ``FAMILIES``.
        checkpoint: The setting ``checkpoint`` in the model's block; if given, only this file counts.
        fetch: Whether published weights may be downloaded to ``$nnUNet_sam``.

    Raises:
        UserError: If there is no such file; the message says where it was looked for and how to get it.
    """
    row, folder = family_of(model, checkpoint), os.environ.get(FOLDER_VARIABLE)
    if checkpoint is not None:
        path = Path(checkpoint).expanduser()
        if row.folders and path.is_dir():
            return path
        if not path.is_file():
            raise UserError(
                f"The setting {model}: {{checkpoint: ...}} names {path}, which is no file. {how_to_get(model)}"
            )
        check_regular_file(path, how_to_get(model))
        return path
    if row.packaged:
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
    if os.path.lexists(path):
        _check_size(row, path)
        return path
    if not fetch or row.url is None:
        raise UserError(f"No weights for the SAM model {model!r} at {path}. {how_to_get(model)}")
    return download(row, path.parent)


def _check_size(row: Family, path: Path) -> None:
    remedy = f"Delete it and run `nnunet-semisam sam download {row.name}`."
    size = check_regular_file(path, remedy)
    if row.size is not None and size != row.size:
        raise UserError(
            f"{path} has {size} bytes, and the published weights of {row.name} have {row.size}: it is not whole, or "
            f"another file. {remedy} Weights of your own are named in the settings, {row.name}: {{checkpoint: ...}}."
        )


def how_to_get(model: str) -> str:
    """Return a sentence that says how to get the weights of ``model``."""
    row = family(model)
    if model == AUTO:
        return "`nnunet-semisam sam list` shows all models, and with a name where its weights are published."
    if row.packaged:
        return f"Leave the setting {model}: {{checkpoint: ...}} out to use the weights in the package."
    if row.url is None:
        return (
            f"Get {row.file} by hand from {row.page} and put it into the folder {FOLDER_VARIABLE}, or name it in the "
            f"settings, {model}: {{checkpoint: ...}}. It is not fetched because no SHA-256 of it is published."
        )
    return (
        f"Set {FOLDER_VARIABLE} to a folder and run `nnunet-semisam sam download {model}`, or get {row.url} by hand "
        f"and name the file in the settings, {model}: {{checkpoint: ...}}."
    )


def load_weights(model: nn.Module, path: Path, name: str, to_model: Callable[[State], State] | None = None) -> str:
    """Load a state dict, every key of it and no other, and return the hex digest of its values.

    Args:
        model: Gets the weights, in its own precision.
        path: File written by ``torch.save``.
        name: What ``model`` is called in the table of models, whose layouts say where in the file the state dict is.
        to_model: Turns the file's state dict into one with the keys of ``model``, if they differ.

    Raises:
        UserError: If the file is unreadable, does not fit the model (the first differences are named), or holds NaN.
    """
    wanted, remedy = model.state_dict(), f"Delete it and get it again. {how_to_get(name)}"
    content = read_tensors(path, remedy, types_of_training(), _most_bytes(wanted))
    state = _state_dict(content, family(name))
    if to_model is not None and not of_another_model(shapes_of(content), name):
        state = to_model(state)
    problems = [f"{key} is missing" for key in wanted if key not in state]
    problems += [f"{key} is unknown" for key in state if key not in wanted]
    problems += [
        f"{key} is {_form(state[key])} instead of {_form(value)}"
        for key, value in wanted.items()
        if key in state and _form(state[key]) != _form(value)
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise UserError(
            f"{path} does not hold weights of the SAM model {name!r}: {'; '.join(problems[:3])}{more}. "
            f"{of_another_model(shapes_of(content), name)}Name the model that the file is of in "
            f"sam: {{models: [...]}}, or give another file. {how_to_get(name)}"
        )
    model.load_state_dict(state)
    check_finite(model.state_dict(), path, how_to_get(name))  # in the model's own precision
    return digest(state)


def _state_dict(content: State, row: Family) -> State:
    """Return the state dict in a file: the file's own dict, or the one under a key that a layout of the row names."""
    for layout in row.layouts:
        inner = content.get(layout.inside)
        if isinstance(inner, Mapping):
            return dict(inner)
    return content


def _most_bytes(wanted: Mapping[str, torch.Tensor]) -> int:
    """Return more than any file of these weights has: twice float64, and room for the names."""
    return 64 * MIB + 16 * sum(value.numel() for value in wanted.values())


def _form(value: Any) -> str:
    """Return shape and kind of a tensor: weights in another precision fit, all else does not."""
    if not isinstance(value, torch.Tensor):
        return type(value).__name__
    kinds = [] if value.is_floating_point() else [str(value.dtype).removeprefix("torch.")]
    kinds += ["without values"] if value.is_meta else []
    kinds += [str(value.layout).removeprefix("torch.")] if value.layout != torch.strided else []
    return " ".join([str(tuple(value.shape)), *kinds])


def digest(state: dict[str, torch.Tensor]) -> str:
    """Return the SHA-256 of names, types and values of a state dict, as a hex digest."""
    total = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        total.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        total.update(value.view(-1).view(torch.uint8).numpy().data if value.numel() else b"")
    return total.hexdigest()
