"""Segmentations as ``nnUNetv2_predict`` makes them, with maps of how unsure they are."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nnunet_semisam.annotation.raw_space import NIFTI, check_axes, check_viewable, segmentation, to_raw, write_like
from nnunet_semisam.annotation.uncertainty import Uncertainty, combine
from nnunet_semisam.data.channel_files import files_can_be_all
from nnunet_semisam.data.dataset_json import channel_names
from nnunet_semisam.data.raw_files import images_in
from nnunet_semisam.data.written_images import written_image
from nnunet_semisam.errors import UserError, name_some
from nnunet_semisam.io.atomic import remove_temporaries
from nnunet_semisam.io.csv_files import write_table
from nnunet_semisam.io.hashes import sha256_of
from nnunet_semisam.io.json_files import read_object, write_json
from nnunet_semisam.io.locks import folder_lock
from nnunet_semisam.io.names import check_case_name
from nnunet_semisam.io.typed_records import RecordError, read_record
from nnunet_semisam.runs.raw_images import ModelPlace, RawCase, RawImagePredictor

FOLDER, TABLE = "uncertainty", "uncertainty.csv"
PREDICTED_FILE = "predicted.json"  # what the segmentations are of; the last file that is written of a case
REMEDY = "Delete it and predict again."


@dataclass(frozen=True)
class Predicted:
    """What a segmentation is of.

    Attributes:
        model: SHA-256 of the checkpoints.
        mirroring: Whether it was predicted with mirroring.
        images: SHA-256 of each image file.
    """

    model: str
    mirroring: bool
    images: list[str]


@dataclass(frozen=True)
class CaseUncertainty:
    """How unsure the prediction of a case is.

    Attributes:
        case: Its name.
        model: SHA-256 of the checkpoints it was predicted with.
        predictions: How many predictions were compared: networks times views.
        foreground_voxels: Voxels of the segmentation that are no background.
        entropy: Mean entropy over these voxels, in [0, 1]; ``None`` if there are none.
        disagreement: Mean disagreement over them, in [0, 1]; ``None`` if there are none.
    """

    case: str
    model: str
    predictions: int
    foreground_voxels: int
    entropy: float | None
    disagreement: float | None


def predict_folder(
    place: ModelPlace, images: Path, output: Path, device: str, mirroring: bool = True, uncertainty: bool = True
) -> list[CaseUncertainty]:
    """Segment all images of a folder; what an earlier run has finished of the same images is left as it is.

    The segmentations are those of ``nnUNetv2_predict``. With ``uncertainty`` there are maps and a table below
    ``uncertainty/``: entropy and disagreement over all networks (folds, student and teacher, further networks of an
    ensemble) and mirrored images, float32 NIfTI in the geometry of the image.

    Args:
        place: The model.
        images: Folder with images in nnU-Net's naming.
        output: Folder of the segmentations.
        device: ``cuda``, ``cpu`` or ``mps``.
        mirroring: Whether to predict with mirroring.
        uncertainty: Whether to write maps.

    Returns:
        The records of all cases, sorted by name; none without ``uncertainty``.

    Raises:
        UserError: If there are no images, one cannot be read or a segmentation not be written, or ``output`` holds what
            another model predicted, or this one with or without mirroring.
    """
    model = RawImagePredictor(place, device, mirroring)
    if uncertainty:
        check_viewable(model)
    ending, digest = model.dataset_json["file_ending"], place.sha256()
    cases = _cases_in(images, ending, model)
    if uncertainty:
        check_axes(files[0] for files in cases.values())
    (output / FOLDER).mkdir(parents=True, exist_ok=True) if uncertainty else output.mkdir(parents=True, exist_ok=True)
    with folder_lock(output, wait=True):
        remove_temporaries(output)
        known = read_predicted(output)
        records = {case: read_case_record(output, case, digest) for case in cases} if uncertainty else {}
        for case in tqdm(cases, desc="predicting", unit="case", leave=False, disable=not sys.stderr.isatty()):
            target = output / f"{case}{ending}"
            now = Predicted(digest, mirroring, [sha256_of(Path(image)) for image in cases[case]])
            if _is_done(known.get(case), now, target) and (records.get(case) or not uncertainty):
                continue
            read = model.read(cases[case])
            label = segmentation(model, read, model.logits(read))
            if uncertainty:
                maps = combine((probs for _, probs in model.views(read)), model.labels)
                records[case] = _write_maps(model, read, cases[case][0], output, case, digest, label, maps)
                write_json(record_file(output, case), asdict(records[case]))
            with written_image(target, with_others=True) as temporary:
                model.plans.image_reader_writer_class().write_seg(label, str(temporary), read.properties)
            known[case] = now
            write_json(output / PREDICTED_FILE, {name: asdict(each) for name, each in sorted(known.items())})
        found = [records[case] for case in sorted(records)]
        if uncertainty:
            rows = [asdict(each) for each in found]
            write_table(output / FOLDER / TABLE, list(CaseUncertainty.__annotations__), rows)
    return found


def read_predicted(output: Path) -> dict[str, Predicted]:
    """Return case -> what its segmentation is of; empty where nothing was predicted.

    Raises:
        UserError: If the file is damaged.
    """
    file = output / PREDICTED_FILE
    if not file.is_file():
        return {}
    try:
        return {
            case: read_record(Predicted, each, f"{file}: {case}:") for case, each in read_object(file, REMEDY).items()
        }
    except RecordError as error:
        raise UserError(f"{error} {REMEDY}") from error


def _is_done(known: Predicted | None, now: Predicted, target: Path) -> bool:
    if known is None or not target.is_file():
        return False
    if (known.model, known.mirroring) != (now.model, now.mirroring):
        raise UserError(
            f"{target.parent} holds predictions of another model, or of the same one with or without mirroring "
            f"({target.name}). Choose another folder with -o."
        )
    return known.images == now.images


def _write_maps(
    model: RawImagePredictor,
    case: RawCase,
    image: str,
    output: Path,
    name: str,
    digest: str,
    label: np.ndarray,
    found: Uncertainty,
) -> CaseUncertainty:
    maps = {kind: to_raw(model, case, getattr(found, kind).numpy()).clip(0, 1) for kind in ("entropy", "disagreement")}
    for kind, values in maps.items():
        write_like(values.astype(np.float32), image, output / FOLDER / f"{name}_{kind}{NIFTI}")
    inside = label > 0
    means = {kind: float(values[inside].mean()) if inside.any() else None for kind, values in maps.items()}
    return CaseUncertainty(name, digest, found.predictions, int(inside.sum()), **means)


def record_file(output: Path, case: str) -> Path:
    """Return the file that says that a case is done."""
    return output / FOLDER / f"{case}.json"


def read_case_record(output: Path, case: str, digest: str) -> CaseUncertainty | None:
    """Return what is known of a case that was predicted; ``None`` if it was not.

    Raises:
        UserError: If another model predicted it, or the record is damaged.
    """
    file = record_file(output, case)
    if not file.is_file():
        return None
    record = read_record(CaseUncertainty, read_object(file, REMEDY), f"{file}:")
    if record.model != digest:
        raise UserError(f"{output} holds predictions of another model ({file}). Choose another folder with -o.")
    return record


def _cases_in(folder: Path, ending: str, model: RawImagePredictor) -> Mapping[str, Sequence[str]]:
    """Return case -> its images.

    Raises:
        UserError: If there are none, a name cannot be a case's, or channels are missing.
    """
    cases = images_in(folder, ending)
    if not cases:
        raise UserError(f"-i {folder} holds no image named CASE_0000{ending}. Name a folder as for nnUNetv2_predict.")
    for case in cases:
        check_case_name(case, str(folder))
    channels, reader = len(channel_names(model.dataset_json)), model.plans.image_reader_writer_class
    wrong = [case for case, files in cases.items() if not files_can_be_all(len(files), channels, reader)]
    if wrong:
        raise UserError(
            f"The model was trained with {channels} channels, and {len(wrong)} cases of {folder} have more or fewer "
            f"files: {name_some(wrong, 5)}. Add or remove files."
        )
    return dict(sorted(cases.items()))
