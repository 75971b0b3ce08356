"""The file of an adapted SAM: what it learned, of which base, from which cases; never the base itself.

It is a safetensors file: tensors, and a record as json in its header, so that reading it runs no code.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nnunet_semisam.errors import UserError, printable
from nnunet_semisam.io.atomic import write_bytes
from nnunet_semisam.io.hashes import sha256_of_json
from nnunet_semisam.io.regular_files import MIB, read_bytes
from nnunet_semisam.io.tensor_files import check_finite
from nnunet_semisam.io.typed_records import Count, FileName, Name, RecordError, Share, read_record
from nnunet_semisam.sam.adapters.parts import LearningParts, PartsRecord
from nnunet_semisam.sam.base import SAMBackend
from nnunet_semisam.sam.checkpoints import digest

ENTRY = "nnunet_semisam"
MOST_BYTES = 16 * 1024 * MIB  # all weights of the largest published model, in float32
REMEDY = "Make it again with `nnunet-semisam sam adapt`, or take the setting adapter out."


@dataclass(frozen=True)
class AdapterRecord:
    """Where an adapter comes from.

    Attributes:
        model: Name of the model.
        base: Digest of the weights that it was trained on top of; it fits no others.
        parts: What learned.
        dataset: Name of the data set.
        plans: Plans identifier.
        configuration: The configuration whose preprocessed images were shown.
        fold: The fold whose labeled cases were learned from.
        cases: All labeled cases that were learned from or judged the steps.
        learned: Those of them that were learned from, in part at least.
        held_out: The part of them that judged the steps, in words.
        data: Digest of images and labels.
        images: How many images were learned from.
        steps: Optimiser steps until the weights in the file.
        dice_before: Mean Dice of the base on the hold-out, with simulated prompts.
        dice_after: Mean Dice of the adapted model there.
        settings: The block ``adaptation``.
        versions: Versions of the packages that made it.
    """

    model: Name
    base: Name
    parts: PartsRecord
    dataset: Name
    plans: Name
    configuration: Name
    fold: Name
    cases: tuple[FileName, ...]
    learned: tuple[FileName, ...]
    held_out: Name
    data: Name
    images: Count
    steps: Count
    dice_before: Share
    dice_after: Share
    settings: dict[str, Any]
    versions: dict[str, Any]


@dataclass(frozen=True)
class Adapter:
    """What a file holds.

    Attributes:
        record: Where it comes from.
        state: What learned, by name.
        fingerprint: Digest of both.
    """

    record: AdapterRecord
    state: dict[str, torch.Tensor]
    fingerprint: str


def base_digest(backend: SAMBackend) -> str:
    """Return the digest of the weights of a SAM that has no adapter."""
    return digest(backend.module.state_dict())


def write_adapter(path: Path, record: AdapterRecord, state: dict[str, torch.Tensor]) -> None:
    """Write an adapter, whole or not at all."""
    from safetensors.torch import save

    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, save(state, {ENTRY: json.dumps(dataclasses.asdict(record))}))


def read_adapter(path: Path) -> Adapter:
    """Return what a file of :func:`write_adapter` holds.

    Raises:
        UserError: If it is missing, damaged, or no adapter.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    content = read_bytes(path, REMEDY, MOST_BYTES)
    try:
        state = load(content)
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        record = read_record(AdapterRecord, json.loads(header["__metadata__"][ENTRY]), ENTRY)
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path} holds no adapter of `nnunet-semisam sam adapt` ({printable(str(error), 200)}): it is damaged or "
            f"another file. {REMEDY}"
        ) from error
    except RecordError as error:
        raise UserError(f"{path} holds no adapter of this version: {error} {REMEDY}") from error
    check_finite(state, path, REMEDY)
    fingerprint = sha256_of_json({"state": digest(state), "parts": dataclasses.asdict(record.parts)})
    return Adapter(record, state, fingerprint)


def apply_adapter(backend: SAMBackend, path: Path, model: str) -> AdapterRecord:
    """Make a SAM the adapted one, in place; its fingerprint changes, so that embeddings are never mixed.

    Args:
        backend: The SAM with the weights that the adapter was trained on top of.
        path: The adapter's file.
        model: Name of the model, for the setting in messages.

    Returns:
        Where the adapter comes from.

    Raises:
        UserError: If the file is no adapter, or one of another base.
    """
    adapter = read_adapter(path)
    remedy = f"Name an adapter of these weights in {model}: {{adapter: ...}}, or make one: nnunet-semisam sam adapt."
    base = base_digest(backend)
    if adapter.record.base != base:
        raise UserError(
            f"{path} was trained on top of other weights ({adapter.record.model}, {adapter.record.base[:12]}) than "
            f"those of {model} here ({base[:12]}). {remedy}"
        )
    parts = LearningParts(backend, adapter.record.parts)
    try:
        parts.load_state(adapter.state)
    except ValueError as error:
        raise UserError(f"{path} is damaged or of another version: {error}. {REMEDY}") from error
    parts.merge()
    backend.fingerprint = sha256_of_json({"base": backend.fingerprint, "adapter": adapter.fingerprint})
    return adapter.record


def refuse_leaking_adapter(
    record: AdapterRecord, path: str, dataset: str, withheld: Iterable[str], other_patients: bool = False
) -> None:
    """Refuse an adapter that learned from labels which a training must not see.

    Args:
        record: Where the adapter comes from.
        path: Its file, for the message.
        dataset: Name of the training's data set.
        withheld: Validation and hidden cases of the training's fold.
        other_patients: Whether cases of another data set are other patients, though names are alike. Else they count
            as the same ones: one source is often converted several times, with other patients labeled.

    Raises:
        UserError: If it learned from one of them.
    """
    seen = sorted(set(record.cases) & set(withheld))
    if not seen or (record.dataset != dataset and other_patients):
        return
    of_another = "" if record.dataset == dataset else f" of {record.dataset}"
    apart = (
        " If these are other patients, whose names are alike by chance: sam: {adapters_of_other_patients: true}."
        if of_another
        else ""
    )
    raise UserError(
        f"{path} was adapted to {len(seen)} case(s){of_another} whose labels this fold validates on or hides, "
        f"{seen[0]} for example: results would be too good. Adapt the SAM with the same fold as the training: "
        f"nnunet-semisam sam adapt -f FOLD.{apart}"
    )
