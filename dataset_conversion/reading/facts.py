"""What was read, in numbers: geometry, range and content hash of every file, for the manifest and for comparisons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813


@dataclass(frozen=True)
class Facts:
    """Facts of one image or label.

    Attributes:
        size: Voxels along x, y, z.
        spacing: Millimetres along x, y, z.
        orientation: Where the axes x, y, z lead to, for example ``LPS``.
        minimum: Smallest value.
        maximum: Largest value.
        voxels: SHA-256 of the values (as float32, in the order z, y, x, channel) and the size. Equal for equal voxels,
            however the file was compressed or typed.
    """

    size: tuple[int, ...]
    spacing: tuple[float, ...]
    orientation: str
    minimum: float
    maximum: float
    voxels: str


def facts_of(image: sitk.Image) -> Facts:
    """Return the facts of a 3D image; those of several channels in one file are of all of them."""
    import SimpleITK as sitk  # noqa: N813

    from nnunet_semisam.data.stored_voxels import hash_of_voxels

    array = sitk.GetArrayViewFromImage(image)
    return Facts(
        size=image.GetSize(),
        spacing=tuple(round(value, 6) for value in image.GetSpacing()),
        orientation=sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection()),
        minimum=float(array.min()),
        maximum=float(array.max()),
        voxels=hash_of_voxels(array),
    )
