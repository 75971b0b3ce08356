"""NIfTI files as people share them: without a suffix, not compressed, or with a header that contradicts itself.

Whatever is wrong here is fixed by reading voxels and affine with nibabel and writing one plain header; a note says so.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nnunet_semisam.data.stored_voxels import MOST_BEHIND, is_compressed, open_unpacked

from .case import Source
from .headers import check_file, check_nifti

if TYPE_CHECKING:
    import nibabel
    import numpy as np
    import SimpleITK as sitk  # noqa: N813

HEADER_BYTES = 348
TOLERANCE = 1e-3  # mm for origin and spacing; headers hold float32
SKEW_TOLERANCE = 1e-4  # ITK refuses axes that are not at right angles


class Oddity(NamedTuple):
    """Something that is wrong with a file and was fixed.

    Attributes:
        kind: What is wrong, and what was done; the same text for all such files.
        detail: Numbers of this file, or nothing.
    """

    kind: str
    detail: str = ""


NO_SUFFIX = Oddity("the name lacks the ending .nii.gz")
NOT_COMPRESSED = Oddity("not compressed, whatever the name says; written compressed")
SKEWED = Oddity("axes are not at right angles (tilted gantry?); turned to right angles")
TWO_AFFINES = Oddity("qform and sform differ; sform was used")
OTHER_GRID = Oddity("header of the label differs from its image's; the label was put on the image's grid")


class Grid(NamedTuple):
    """Where the voxels are, in SimpleITK's convention (LPS)."""

    size: tuple[int, ...]
    spacing: np.ndarray
    origin: np.ndarray
    direction: np.ndarray

    def equals(self, other: Grid) -> bool:
        """Return whether two grids are the same but for rounding."""
        import numpy as np

        pairs = zip(self[1:], other[1:], strict=True)
        return self.size == other.size and all(np.allclose(a, b, rtol=0, atol=TOLERANCE) for a, b in pairs)

    def leads_the_same_way(self, other: Grid) -> bool:
        """Return whether both have one size, and each axis leads to the same side of the body."""
        import SimpleITK as sitk  # noqa: N813

        name = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines
        return self.size == other.size and name(self.direction.ravel()) == name(other.direction.ravel())


def read_header(path: Path) -> nibabel.Nifti1Header:
    """Return the header, whatever the name of the file; voxels are not read.

    Raises:
        OSError: If the file cannot be opened.
        ValueError: If it is no NIfTI file.
    """
    import nibabel

    try:
        with open_unpacked(path) as file:
            start = file.read(HEADER_BYTES)
        return nibabel.Nifti1Header(start, check=True)
    except (EOFError, zlib.error, nibabel.wrapstruct.WrapStructError, nibabel.spatialimages.HeaderDataError) as error:
        raise ValueError(f"its header cannot be read: {error}") from error


def affine_of(header: nibabel.Nifti1Header) -> tuple[np.ndarray, np.ndarray]:
    """Return the header's best affine (RAS) and the millimetres per voxel along each axis.

    Raises:
        ValueError: If an axis has no length.
    """
    import numpy as np

    affine = header.get_best_affine()
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or not (spacing > 0).all():
        raise ValueError(f"its header has no voxel size, the affine's is {_text(spacing)} mm")
    return affine, spacing


def grid_of(header: nibabel.Nifti1Header) -> Grid:
    """Return the grid that the header's affine describes, with its axes turned to right angles."""
    import numpy as np

    affine, spacing = affine_of(header)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # NIfTI is RAS, SimpleITK is LPS
    left, _, right = np.linalg.svd(affine[:3, :3] / spacing)
    return Grid(tuple(map(int, header.get_data_shape())), spacing, affine[:3, 3], left @ right)


def read_nifti(path: Path, grid: Grid | None = None) -> sitk.Image:
    """Read a NIfTI file with nibabel.

    Args:
        path: The file, with any name.
        grid: Where the voxels are, if not where the header says.

    Returns:
        The image with SimpleITK's axes.

    Raises:
        OSError: If the file cannot be opened.
        ValueError: If it is no NIfTI file, is cut off, or holds NaN or infinity.
    """
    import numpy as np
    import SimpleITK as sitk  # noqa: N813
    from nibabel import Nifti1Image

    header = read_header(path)
    try:
        array = np.asanyarray(Nifti1Image.from_bytes(_content(path, header)).dataobj)
    except (EOFError, zlib.error, IndexError) as error:
        raise ValueError(f"it is cut off: {error}") from error
    if array.ndim != 3:
        raise ValueError(f"it must have three axes, has the shape {array.shape}")
    if np.issubdtype(array.dtype, np.floating):
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
            array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise ValueError("it holds voxels that are NaN, infinite, or too large for float32")
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T.astype(array.dtype.newbyteorder("="))))
    grid = grid_of(header) if grid is None else grid
    image.SetSpacing(grid.spacing.tolist())
    image.SetOrigin(grid.origin.tolist())
    image.SetDirection(grid.direction.ravel().tolist())
    return image


def source_of(path: Path) -> tuple[Source, list[Oddity]]:
    """Return how a file is read and written, and what is odd about it.

    A file whose header cannot be read is no error here: reading it later is, together with all others.
    """
    try:
        check_file(path, check_nifti)
        compressed = is_compressed(path)
        header = header_oddities(read_header(path))
    except (OSError, ValueError):
        return Source(path, read_nifti, header=check_nifti), []
    needs_rewriting = header if compressed else [NOT_COMPRESSED, *header]
    if not path.name.endswith(".nii.gz"):
        return Source(path, read_nifti, bool(needs_rewriting), header=check_nifti), [NO_SUFFIX, *needs_rewriting]
    if needs_rewriting:
        return Source(path, read_nifti, rewrite=True, header=check_nifti), needs_rewriting
    return Source(path), []


def label_source_of(path: Path, image: Path) -> tuple[Source, list[Oddity]]:
    """Return how a label is read and written: on the grid of its image, where only the headers differ."""
    source, odd = source_of(path)
    try:
        check_file(path, check_nifti)
        check_file(image, check_nifti)
        ours, theirs = grid_of(read_header(path)), grid_of(read_header(image))
    except (OSError, ValueError):
        return source, odd
    if ours.equals(theirs) or not ours.leads_the_same_way(theirs):
        return source, odd  # a label that may be mirrored is never moved: the checks refuse it
    return Source(path, partial(read_nifti, grid=theirs), rewrite=True, header=check_nifti), [*odd, OTHER_GRID]


def header_oddities(header: nibabel.Nifti1Header) -> list[Oddity]:
    """Return in which ways a header contradicts itself; voxel sizes are then taken from its affine."""
    import numpy as np

    affine, spacing = affine_of(header)
    axes = affine[:3, :3] / spacing
    sizes = np.asarray(header.get_zooms()[:3], dtype=float)
    odd = []
    if not np.allclose(sizes, spacing, rtol=0.01):
        kind = "voxel size and affine contradict each other (uneven slices?); the affine was used"
        odd.append(Oddity(kind, f"{_text(sizes)} and {_text(spacing)} mm"))
    if not np.allclose(axes.T @ axes, np.eye(3), atol=SKEW_TOLERANCE):
        odd.append(SKEWED)
    if header["qform_code"] > 0 and header["sform_code"] > 0 and not odd:
        qform, sform = header.get_qform(), header.get_sform()
        if not np.allclose(qform, sform, rtol=0, atol=10 * TOLERANCE):
            odd.append(TWO_AFFINES)
    return odd


def summarise(odd: Mapping[str, Sequence[Oddity]], most: int = 5) -> list[str]:
    """Return one sentence per kind of oddity, with the first files: 192 names without an ending are one sentence.

    Args:
        odd: File -> what is odd about it.
        most: How many files a sentence names.
    """
    kinds: dict[str, list[str]] = {}
    for name, oddities in odd.items():
        for each in oddities:
            kinds.setdefault(each.kind, []).append(f"{name} ({each.detail})" if each.detail else name)
    return [
        f"{len(names)} {'file' if len(names) == 1 else 'files'}: {kind}: {', '.join(names[:most])}"
        f"{', ...' if len(names) > most else ''}"
        for kind, names in kinds.items()
    ]


def _content(path: Path, header: nibabel.Nifti1Header) -> bytes:
    """Return the file unpacked, not more of it than belongs to its voxels."""
    voxels = math.prod(map(int, header.get_data_shape())) * header.get_data_dtype().itemsize
    most = int(header["vox_offset"]) + voxels + MOST_BEHIND
    with open_unpacked(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError("it goes on far behind its voxels: it is damaged or crafted")
    return content


def _text(numbers: np.ndarray) -> str:
    return "(" + ", ".join(f"{number:.4g}" for number in numbers) + ")"
