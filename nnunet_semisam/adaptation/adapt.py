"""Adapt a SAM to the labeled cases of a fold, and write what it learned."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnunet_semisam.adaptation.fold_data import FoldData, results_of
from nnunet_semisam.data.geometry import known_spacing
from nnunet_semisam.errors import UserError
from nnunet_semisam.generalists.build import backend_of_settings
from nnunet_semisam.generalists.settings import THREE_AXES
from nnunet_semisam.generalists.views import CaseGrid, View, choose_view, require_spacing
from nnunet_semisam.io.locks import folder_lock
from nnunet_semisam.sam.adapters.adapter_file import AdapterRecord, write_adapter
from nnunet_semisam.sam.adapters.examples import LabeledImages, with_classes
from nnunet_semisam.sam.adapters.training import Adaptation, Adapted
from nnunet_semisam.sam.base import SAMBackend
from nnunet_semisam.settings import Settings

FOLDER, ADAPTER, CHECKPOINT = "semisam_adapters", "adapter.safetensors", "checkpoint_adapt.pt"
VERSIONS_OF = ("nnunet-semisam", "nnunetv2", "torch", "segment-anything", "peft")


@dataclass(frozen=True)
class Outcome:
    """What came of an adaptation.

    Attributes:
        file: The adapter; ``None`` if the hold-out was never better than with the base, and nothing was written.
        adapted: The run.
    """

    file: Path | None
    adapted: Adapted


def default_folder(data: FoldData, model: str) -> Path:
    """Return where the adapter of a model goes: beside nnU-Net's trainings of the data set."""
    name = f"{model}__{data.data.plans_manager.plans_name}__{data.data.configuration_name}"
    return results_of(data) / FOLDER / name / f"fold_{data.name}"


def adapt(
    data: FoldData,
    model: str,
    settings: Settings,
    device: torch.device,
    folder: Path,
    log: Callable[[str], Any] = print,
) -> Outcome:
    """Adapt a SAM, or go on with an adaptation that was killed.

    Args:
        data: The fold; its labeled training cases only are opened.
        model: Name in the table of families; its block of settings names weights, view and channel.
        settings: The settings of the run; the block ``adaptation`` says how.
        device: Where to train.
        folder: Gets checkpoint and adapter.
        log: Receives lines for the user.

    Raises:
        UserError: If the model cannot be adapted, a case is damaged, or the folder holds an adapter already.
    """
    if settings.block(model).adapter is not None:
        raise UserError(
            f"The setting {model}: {{adapter: ...}} is set: an adapted model is not adapted again. Unset it."
        )
    file = folder / ADAPTER
    with folder_lock(folder, wait=False) as ours:
        if not ours:
            raise UserError(f"Another process works in {folder}. Wait for it, or give another --out.")
        if file.exists():
            raise UserError(f"{file} is there already. Delete it to adapt again, or give another --out.")
        backend = backend_of_settings(model, settings, device)
        cases = labeled_images(data, model, backend, settings, log)
        log(f"{sum(map(len, cases))} images of {len(cases)} labeled cases show a class.")
        run = Adaptation(backend, cases, data.labels, settings.block("adaptation"), folder / CHECKPOINT, log)
        log(f"Hold-out: {run.held_out}. Learning: {sum(p.numel() for p in run.parts.parameters())} parameters.")
        adapted = run.run()
        if adapted.steps:
            write_adapter(file, _record(data, model, run, adapted), adapted.state)
        (folder / CHECKPOINT).unlink(missing_ok=True)
    return Outcome(file if adapted.steps else None, adapted)


def labeled_images(
    data: FoldData, model: str, backend: SAMBackend, settings: Settings, log: Callable[[str], Any]
) -> list[LabeledImages]:
    """Return the images of all labeled cases of a fold that show a class, as the model's view makes them.

    Of the view along three axes that is one axis: a hold-out of some slices of the only patient would be seen along the
    others.

    Raises:
        UserError: If a case is damaged, has no such channel, or no image shows a class.
    """
    block, spacing = settings.block(model), data.data.configuration_manager.spacing
    if block.channel >= data.plan.channels:
        raise UserError(
            f"The setting {model}: {{channel: {block.channel}}} names a channel that the images lack: they have "
            f"{data.plan.channels}, counted from 0."
        )
    chosen = block.view
    if chosen == THREE_AXES:
        chosen = "slices"
        log(f"The view {THREE_AXES} of {model}: the slices along one axis are learned from, as with the view slices.")
    view = choose_view(chosen, block.axis, backend.spatial_dims, spacing)
    smallest = settings.block("adaptation").smallest
    found = [_images_of(data, case, view, block.channel) for case in data.labeled.cases]
    found = [with_classes(case, data.labels, smallest) for case in found]
    if not any(len(case) for case in found):
        raise UserError(
            f"No labeled case of fold {data.name} shows a class in {smallest} voxels of an image, "
            "annotated to its edge: an object that touches voxels of the ignore label is no example."
        )
    return [case for case in found if len(case)]


def _images_of(data: FoldData, case: str, view: View, channel: int) -> LabeledImages:
    image, label = data.labeled.load_image(case), data.labeled.load_label(case)
    spacing = known_spacing(data.data, case)
    require_spacing(view, case, spacing)
    grid = CaseGrid(label.shape, spacing)
    shown = view.images(image[channel : channel + 1], grid)
    return LabeledImages(
        case,
        data.labeled.group_of(case),
        np.ascontiguousarray(shown, dtype=np.float32),
        np.ascontiguousarray(view.images(label[None], grid)[:, 0]),
        np.arange(len(shown)),
    )


def _record(data: FoldData, model: str, run: Adaptation, adapted: Adapted) -> AdapterRecord:
    return AdapterRecord(
        model=model,
        base=run.base,
        parts=run.parts.record,
        dataset=data.dataset.raw.name,
        plans=data.data.plans_manager.plans_name,
        configuration=data.data.configuration_name,
        fold=data.name,
        cases=tuple(data.labeled.cases),
        learned=adapted.learned,
        held_out=adapted.held_out,
        data=adapted.data,
        images=adapted.images,
        steps=adapted.steps,
        dice_before=adapted.before["mean"],
        dice_after=adapted.after["mean"],
        settings=run.settings.to_dict(),
        versions={name: _version(name) for name in VERSIONS_OF},
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
