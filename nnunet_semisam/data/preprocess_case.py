"""Preprocess one image of ``imagesUl``: nnU-Net's own preprocessor, with checks that name the file."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import blosc2
import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_semisam.data.case_workers import KILLED
from nnunet_semisam.data.dataset_json import channel_names
from nnunet_semisam.data.geometry import Geometry, write_geometry
from nnunet_semisam.data.geometry_of_images import geometry_of_properties
from nnunet_semisam.data.image_checks import (
    check_image,
    check_preprocessed,
    check_resampled,
    check_spacing,
    count_not_finite,
)
from nnunet_semisam.data.image_headers import check_image_file, reason
from nnunet_semisam.data.preprocessed_folder import images_file, state_of
from nnunet_semisam.data.unlabeled_images import shown_path
from nnunet_semisam.errors import UserError, printable
from nnunet_semisam.io.atomic import replaced_file
from nnunet_semisam.io.json_files import write_json


@dataclass(frozen=True)
class Job:
    """One case for a worker; plain types only, so that it travels to a spawned process.

    Attributes:
        case: Name of the case.
        images: One file per channel, in the order of the channels.
        target: The preprocessed image to write.
        preprocessed: ``$nnUNet_preprocessed/DATASET``, where the geometry of the case is written.
        plans: nnU-Net's plans.
        configuration: Name of the configuration.
        dataset_json: nnU-Net's dataset.json.
    """

    case: str
    images: tuple[str, ...]
    target: str
    preprocessed: str
    plans: dict
    configuration: str
    dataset_json: dict


@dataclass(frozen=True)
class PreprocessedImage:
    """What nnU-Net's preprocessor made of one case.

    Attributes:
        data: ``(C, Z, Y, X)``, float32, after ``transpose_forward``.
        geometry: Where the voxels of the raw image are.
        configuration: The plans' configuration, which knows the patch size.
    """

    data: np.ndarray
    geometry: Geometry
    configuration: ConfigurationManager


def preprocess_case(job: Job) -> str | None:
    """Preprocess one case.

    Returns:
        ``None`` if the file was written, otherwise a sentence that names the file and what is wrong with it.

    Raises:
        UserError: If the disk cannot be written to: then no other case can be, either.
    """
    with contextlib.suppress(OSError):  # told below, where the image cannot be read
        state = state_of(job.images)  # as it is before it is read
    try:
        image = _run(job)
    except UserError as problem:
        return str(problem)
    try:
        _write_image(Path(job.target), image)
        write_geometry(Path(job.preprocessed), job.case, image.geometry)
        write_json(images_file(Path(job.target)), state)  # last: without it the case is not done
    except (OSError, RuntimeError) as error:  # RuntimeError: blosc2's for a full disk
        free = shutil.disk_usage(Path(job.target).parent).free / 1e9
        raise UserError(
            f"{job.target} cannot be written ({printable(str(error), 300)}; {free:.1f} GB are free). What is done is "
            "kept: make room, or see who may write there, and run this again."
        ) from error
    return None


def killed(job: Job) -> str:
    """Return what to say of a case whose worker was killed."""
    return f"{', '.join(job.images)}: {KILLED}. Close other programs, or remove the case."


def _run(job: Job) -> PreprocessedImage:
    manager = PlansManager(job.plans)
    configuration = manager.get_configuration(job.configuration)
    names = ", ".join(shown_path(Path(image)) for image in job.images)
    for image in job.images:
        check_image_file(image)
    try:
        data, properties = manager.image_reader_writer_class().read_images(job.images)
        not_finite = count_not_finite(job.images, data)
    except Exception as error:  # every reader raises its own kinds; the file is unreadable either way
        why = reason(error) if str(error).strip() else "its channels differ in shape, spacing or origin"
        raise UserError(f"{names} cannot be read: {why}. Fix or remove it.") from error
    check_image(names, data, not_finite, len(channel_names(job.dataset_json)))
    check_spacing(names, properties["spacing"], job.plans)
    shape = data.shape[1:]
    try:
        check_resampled(shape, len(data), properties["spacing"], manager, configuration)
        preprocessor = configuration.preprocessor_class(verbose=False)
        data, _, properties = preprocessor.run_case_npy(
            data, None, properties, manager, configuration, job.dataset_json
        )
        data = data.astype(np.float32, copy=False)
        check_preprocessed(data)
        geometry = geometry_of_properties(
            properties, shape, manager.transpose_forward, properties["bbox_used_for_cropping"]
        )
    except Exception as error:  # nnU-Net's code may raise anything, and one image must not stop the others
        raise UserError(f"{names} cannot be preprocessed: {reason(error)}. Fix or remove it.") from error
    return PreprocessedImage(data, geometry, configuration)


def _write_image(target: Path, image: PreprocessedImage) -> None:
    data = image.data
    blocks, chunks = comp_blosc2_params(data.shape, tuple(image.configuration.patch_size), data.itemsize)
    codec, level = blosc2.Codec.LZ4HC, 5  # as nnU-Net 2.8.1's save_case
    chosen = nnUNetDatasetBlosc2._select_filter(data, blocks, chunks, codec, level)
    cparams = {"codec": codec, "filters": [chosen], "nthreads": 1, "clevel": level}
    with replaced_file(target) as temporary:
        blosc2.asarray(
            np.ascontiguousarray(data), urlpath=str(temporary), chunks=chunks, blocks=blocks, cparams=cparams
        )
