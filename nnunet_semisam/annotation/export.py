"""Pseudo-labels as files that an annotator opens, corrects and gives back.

======================================  =============================================================================
``images/CASE_0000.nii.gz`` ...         the image, in its own geometry
``labels/CASE.nii.gz``                  the pseudo-label, on the voxels of the image
``confidence/CASE.nii.gz``              how sure it is, float32 in [0, 1]
``labels.ctbl``, ``labels_itksnap.txt``  names and colours for 3D Slicer and for ITK-SNAP
``reviewed/``                           corrected labels go here; ``nnunet-semisam pseudo-labels import`` reads them
``records/CASE.json``                   hashes of what was written, and where it is from; the last file of a case
``export.json``                         dataset, fold and model
======================================  =============================================================================
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
import torch
from tqdm import tqdm

from nnunet_semisam.annotation.color_tables import itksnap_table, label_names, slicer_table
from nnunet_semisam.annotation.export_record import CaseRecord, ExportRecord, read_case, read_export, write_export
from nnunet_semisam.annotation.pool import Pool
from nnunet_semisam.annotation.raw_space import (
    NIFTI,
    check_axes,
    check_viewable,
    read_image,
    segmentation,
    to_raw,
    write_like,
)
from nnunet_semisam.data.written_images import written_image
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.atomic import remove_temporaries, write_text
from nnunet_semisam.io.hashes import sha256_of
from nnunet_semisam.io.locks import folder_lock
from nnunet_semisam.pseudo_labels.session import STORE_FOLDER
from nnunet_semisam.pseudo_labels.store import PseudoLabelStore
from nnunet_semisam.runs.raw_images import ModelPlace, RawCase, RawImagePredictor

MODEL, ROUNDS = "model", "rounds"
WITHOUT_MIRRORING = "model, without mirroring"
REVIEWED = "reviewed"
LEVELS = 255  # of confidences in a stored round


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        source: ``model``, or ``round 3``.
        written: Cases that were written now.
        there: Cases that were there already.
        without: Cases that the round has no pseudo-label of.
    """

    source: str
    written: list[str]
    there: list[str]
    without: list[str]


def stored_rounds(place: ModelPlace) -> PseudoLabelStore | None:
    """Return the rounds of pseudo-labels of a model of one fold; ``None`` if it has none."""
    folders = [file.parent / STORE_FOLDER for file in place.files()]
    store = PseudoLabelStore(folders[0])
    return store if len(folders) == 1 and store.rounds() else None


def export_pseudo_labels(
    place: ModelPlace,
    dataset: str,
    fold: str,
    pool: Pool,
    output: Path,
    device: str,
    source: str = MODEL,
    mirroring: bool = True,
) -> Exported:
    """Write pseudo-labels, images and colour tables; cases that are there already are left as they are.

    Args:
        place: The model.
        dataset: Name of the dataset.
        fold: Whose unlabeled cases they are.
        pool: These cases.
        output: Folder to write to.
        device: ``cuda``, ``cpu`` or ``mps``.
        source: ``model``: what the model predicts, with the probability of the chosen class as confidence; ``rounds``:
            the newest round of the pseudo-label stage, as the training used it.
        mirroring: Whether the model predicts with mirroring.

    Raises:
        UserError: If there are no rounds, an image cannot be read or written as NIfTI, or ``output`` holds another
            export.
    """
    store = stored_rounds(place) if source == ROUNDS else None
    if source == ROUNDS and store is None:
        raise UserError(
            f"{place.folder} has no finished round of pseudo-labels in one fold. Export with --source model."
        )
    where = f"round {store.latest_round()}" if store is not None else MODEL if mirroring else WITHOUT_MIRRORING
    model = RawImagePredictor(place, device, mirroring)
    check_viewable(model)
    check_axes(files[0] for files in pool.images.values())
    names = label_names(model.dataset_json)
    record = ExportRecord(
        dataset=dataset,
        fold=fold,
        model=place.folder.name,
        checkpoints=place.sha256(),
        source=where,
        train=pool.fold.train,
        val=pool.fold.val,
        labels={str(value): name for value, name in names.items()},
    )
    having = None if store is None else set(store.cases())
    without = [] if having is None else [case for case in pool.images if case not in having]
    cases = [case for case in pool.images if case not in without]
    with folder_lock(output, wait=True):
        _begin(output, record, names)
        there = [case for case in cases if _is_there(output, case, pool.images[case])]
        todo = [case for case in cases if case not in there]
        for case in tqdm(todo, desc="exporting", unit="case", leave=False, disable=not sys.stderr.isatty()):
            read = model.read(pool.images[case])
            label, confidence = _predicted(model, read) if store is None else _stored(model, read, store, case)
            _write_case(output, case, pool.images[case], label, confidence)
    return Exported(where, todo, there, without)


def _begin(output: Path, record: ExportRecord, names: Mapping[int, str]) -> None:
    """Make the folders and what all cases share; refuse a folder that holds another export."""
    there = read_export(output) if ExportRecord.file(output).exists() else None
    if there is not None and there != record:
        raise UserError(
            f"{output} holds pseudo-labels of {there.dataset}, fold {there.fold}, {there.model} ({there.source}) from "
            f"another dataset, model or round than now ({record.source}). Choose another folder with -o."
        )
    for folder in ("images", "labels", "confidence", "records", REVIEWED):
        (output / folder).mkdir(parents=True, exist_ok=True)
        remove_temporaries(output / folder)
    write_text(output / "labels.ctbl", slicer_table(names))
    write_text(output / "labels_itksnap.txt", itksnap_table(names))
    if there is None:
        write_export(output, record)


def _is_there(output: Path, case: str, images: Sequence[str]) -> bool:
    """Return whether a case was exported, from these images; refuse to write over what was corrected in place."""
    if not CaseRecord.file(output, case).is_file():
        return False
    record = read_case(output, case)
    if record.images == [sha256_of(Path(image)) for image in images]:
        channels = [output / "images" / f"{case}_{channel:04d}{NIFTI}" for channel in range(len(images))]
        maps = [output / kind / f"{case}{NIFTI}" for kind in ("labels", "confidence")]
        return all(file.is_file() for file in (*channels, *maps))  # one may have been moved to reviewed/
    label = output / "labels" / f"{case}{NIFTI}"
    if label.is_file() and sha256_of(label) != record.label:
        raise UserError(
            f"The image of {case} changed since the export, and so did {label}. Move that file away, then export again."
        )
    return False


def _predicted(model: RawImagePredictor, case: RawCase) -> tuple[np.ndarray, np.ndarray]:
    logits = model.logits(case)
    probs = torch.as_tensor(model.predictor.label_manager.apply_inference_nonlin(logits))
    certainty = model.labels.certainty(probs[None])[0, 0].numpy()
    return segmentation(model, case, logits), to_raw(model, case, certainty)


def _stored(
    model: RawImagePredictor, case: RawCase, store: PseudoLabelStore, name: str
) -> tuple[np.ndarray, np.ndarray]:
    label, levels = (np.asarray(values[:])[0] for values in store.open(name))
    if label.shape != tuple(case.image.shape[1:]):
        raise UserError(
            f"The pseudo-label of {name} has {label.shape} voxels, and its preprocessed image "
            f"{tuple(case.image.shape[1:])}: the image or the plans changed since. Train again, or use --source model."
        )
    label = np.maximum(label, 0)  # where nothing is claimed the confidence is 0
    return to_raw(model, case, label, is_label=True), to_raw(model, case, levels.astype(np.float32) / LEVELS)


def _write_case(output: Path, case: str, images: Sequence[str], label: np.ndarray, confidence: np.ndarray) -> None:
    for channel, image in enumerate(images):
        _write_image(Path(image), output / "images" / f"{case}_{channel:04d}{NIFTI}")
    kind = np.uint8 if label.max(initial=0) < 255 else np.int16
    target = output / "labels" / f"{case}{NIFTI}"
    write_like(label.astype(kind), images[0], target)
    confidence = confidence.clip(0, 1).astype(np.float32)
    write_like(confidence, images[0], output / "confidence" / f"{case}{NIFTI}")
    mean = float(confidence[label > 0].mean()) if (label > 0).any() else None
    CaseRecord(case, [sha256_of(Path(image)) for image in images], sha256_of(target), mean).write(output)


def _write_image(image: Path, target: Path) -> None:
    """Copy a NIfTI file, byte for byte; turn other formats into NIfTI."""
    with written_image(target) as temporary:
        if image.name.endswith(NIFTI):
            shutil.copyfile(image, temporary)
        else:
            sitk.WriteImage(read_image(image), str(temporary), useCompression=True)
