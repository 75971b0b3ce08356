"""Back from nnU-Net's preprocessed arrays to the voxels of the raw image, and into files that viewers open."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
import torch

from nnunet_semisam.data.back_to_raw import back_to_raw
from nnunet_semisam.data.image_headers import check_image_file, check_image_header, reason
from nnunet_semisam.data.written_images import written_image
from nnunet_semisam.errors import UserError
from nnunet_semisam.runs.raw_images import RawCase, RawImagePredictor

NIFTI = ".nii.gz"
READABLE = (".nii.gz", ".nii", ".nrrd", ".mha")  # by SimpleITK, with their place in the patient
PLAIN_READERS = ("SimpleITKIO", "NibabelIO")  # of nnU-Net: voxels stay as the file has them, in the order Z, Y, X


def segmentation(model: RawImagePredictor, case: RawCase, logits: torch.Tensor) -> np.ndarray:
    """Return nnU-Net's segmentation of the raw image, ``(Z, Y, X)`` of its reader."""
    from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape

    return convert_predicted_logits_to_segmentation_with_correct_shape(
        logits,
        model.plans,
        model.configuration,
        model.predictor.label_manager,
        case.properties,
        num_threads_torch=torch.get_num_threads(),
    )


def to_raw(model: RawImagePredictor, case: RawCase, values: np.ndarray, is_label: bool = False) -> np.ndarray:
    """Return a map ``(Z, Y, X)`` of the preprocessed image on the voxels of the raw one; 0 where it was cropped away.

    Args:
        model: Knows how it was preprocessed.
        case: The image.
        values: The map.
        is_label: Whether it holds labels, which have no values in between.
    """
    return back_to_raw(values, case.properties, model.plans, model.configuration, is_label)


def check_viewable(model: RawImagePredictor) -> None:
    """Refuse images that cannot be written as NIfTI where they are in the patient.

    Raises:
        UserError: If they are photos or tif volumes, or nnU-Net's reader turns them.
    """
    reader, ending = model.plans.image_reader_writer_class.__name__, model.dataset_json["file_ending"]
    if ending not in READABLE or reader not in PLAIN_READERS:
        raise UserError(
            f"NIfTI files are written on the voxels of the image, and for images that end in {ending!r}, read by "
            f"nnU-Net's {reader}, that is not possible. It takes {', '.join(READABLE)}, read by "
            f"{' or '.join(PLAIN_READERS)}."
        )


def check_axes(images: Iterable[str | Path]) -> None:
    """Refuse images with other than three axes by their headers, before hours of prediction.

    Raises:
        UserError: If there is one, or one whose header cannot be read or says what cannot be.
    """
    for path in images:
        read_header(path)


def read_header(path: str | Path) -> Any:
    """Return a SimpleITK reader that knows size and place of an image with three axes, and has read no voxel.

    Raises:
        UserError: If the header cannot be read or says what cannot be, or there are other than three axes.
    """
    check_image_header(path)
    header = sitk.ImageFileReader()
    header.SetFileName(str(path))
    try:
        header.ReadImageInformation()
    except RuntimeError as error:
        raise UserError(f"{path} cannot be read: {reason(error)}. Fix or remove it.") from error
    _refuse_other_axes(path, header.GetDimension())
    return header


def _refuse_other_axes(path: str | Path, axes: int) -> None:
    if axes != 3:
        raise UserError(
            f"{path} has {axes} axes and must have 3: maps are written on its voxels. Save a slice as a volume of one."
        )


def read_image(path: str | Path) -> Any:
    """Return a SimpleITK image with three axes.

    Raises:
        UserError: If it cannot be read, says what cannot be, ends too early, or has other than three axes.
    """
    check_image_file(path)
    try:
        image = sitk.ReadImage(str(path))
    except Exception as error:  # ITK raises RuntimeError with a text of many lines
        raise UserError(f"{path} cannot be read: {reason(error)}. Fix or remove it.") from error
    _refuse_other_axes(path, image.GetDimension())
    return image


def write_like(values: np.ndarray, reference: str | Path, target: Path) -> None:
    """Write a map as NIfTI with spacing, origin and direction of a raw image.

    Args:
        values: ``(Z, Y, X)`` on the voxels of the raw image.
        reference: File of the raw image.
        target: File to write; it appears whole or not at all.

    Raises:
        UserError: If the reference cannot be read, or has other voxels; if not all of the map could be written.
    """
    image = read_image(reference)
    if image.GetSize()[::-1] != values.shape:
        raise UserError(f"{reference} has {image.GetSize()[::-1]} voxels, and the map for it {values.shape}.")
    result = sitk.GetImageFromArray(np.ascontiguousarray(values))
    result.CopyInformation(image)
    target.parent.mkdir(parents=True, exist_ok=True)
    with written_image(target) as temporary:
        sitk.WriteImage(result, str(temporary), useCompression=True)
