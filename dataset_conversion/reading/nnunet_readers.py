"""Which reader nnU-Net would take for the files of a dataset, and the same voxels and spacing for the checks."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_semisam.data.channel_files import holds_many_channels
from nnunet_semisam.errors import UserError, shown

from .case import Source
from .headers import check_file, read_spacing

if TYPE_CHECKING:
    import numpy as np
    import SimpleITK as sitk  # noqa: N813

BY_SIMPLEITK = ("SimpleITKIO", "SimpleITKIOWithReorient")
BY_NIBABEL = ("NibabelIO", "NibabelIOWithReorient")  # NIfTI with three axes: SimpleITK reads the same
TIFF = "Tiff3DIO"
CHANNEL = len("_0000")
PHOTO_OR_VOLUME = ".tif"  # the one ending that two of nnU-Net's readers share and read differently


@dataclass(frozen=True)
class FileReader:
    """One of nnU-Net's readers.

    Attributes:
        kind: Its class.
    """

    kind: type

    @property
    def many_channels(self) -> bool:
        """Whether one file may hold several channels, as photos do."""
        return holds_many_channels(self.kind)

    @property
    def spacing_beside(self) -> bool:
        """Whether the spacing stands in a json file beside the image."""
        return self.kind.__name__ == TIFF

    def image(self, path: Path) -> Source:
        """Return the source of an image."""
        beside = self._spacing_file(path, len(path.suffix) + CHANNEL)
        return Source(path, self.read_image, beside=beside, many_channels=self.many_channels)

    def label(self, path: Path) -> Source:
        """Return the source of a label."""
        return Source(path, self.read_label, beside=self._spacing_file(path, len(path.suffix)))

    def read_image(self, path: Path) -> sitk.Image:
        """Return an image with three axes; several channels become values of one voxel.

        Raises:
            ValueError: If it cannot be read.
        """
        return self._read(path, "read_images", (str(path),), len(path.suffix) + CHANNEL)

    def read_label(self, path: Path) -> sitk.Image:
        """Return a label with three axes.

        Raises:
            ValueError: If it cannot be read.
        """
        return self._read(path, "read_seg", str(path), len(path.suffix))

    def _read(self, path: Path, method: str, argument: Any, end: int) -> sitk.Image:
        if self.kind.__name__ in BY_SIMPLEITK:
            return read_with_simpleitk(path)
        if self.kind.__name__ in BY_NIBABEL:
            return Source(path).read()
        try:
            if self.spacing_beside:
                return read_tiff(path, self._spacing_file(path, end))
            channels, properties = getattr(self.kind(), method)(argument)
            return as_image(channels, properties["spacing"])
        except Exception as error:  # every reader raises its own kinds; the file is unreadable either way
            raise ValueError(str(error) or type(error).__name__) from error

    def _spacing_file(self, path: Path, end: int) -> Path | None:
        beside = path.with_name(f"{path.name[:-end]}.json")
        return beside if self.spacing_beside and os.path.lexists(beside) else None


def reader_of(path: Path, content: Mapping[str, Any], examples: Iterable[Path]) -> FileReader:
    """Return the reader that nnU-Net would take.

    Args:
        path: ``dataset.json``, for the error.
        content: What it holds.
        examples: Images. The first that can be read decides where two readers know the ending: ``.tif`` may be a photo
            or a volume.

    Raises:
        UserError: If no reader knows the ending.
    """
    from nnunetv2.imageio.reader_writer_registry import LIST_OF_IO_CLASSES, determine_reader_writer_from_dataset_json

    wanted = content.get("overwrite_image_reader_writer", "None")
    if not isinstance(wanted, str):
        raise UserError(
            f"{path}: overwrite_image_reader_writer must be the name of one of nnU-Net's readers, got {shown(wanted)}. "
            "Correct or remove it."
        )
    try:
        kind = determine_reader_writer_from_dataset_json(dict(content), verbose=False)
    except RuntimeError as error:
        known = ", ".join(sorted({ending for each in LIST_OF_IO_CLASSES for ending in each.supported_file_endings}))
        raise UserError(
            f"{path}: file_ending {content['file_ending']!r} is known to no reader of nnU-Net. It must be one of "
            f"{known}. Correct it, or convert the files."
        ) from error
    for example in examples if content["file_ending"].lower() == PHOTO_OR_VOLUME else []:
        try:
            check_file(example)
            with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):  # it prints what failed
                return FileReader(determine_reader_writer_from_dataset_json(dict(content), str(example), verbose=False))
        except (RuntimeError, UserError):
            continue
    return FileReader(kind)


def read_with_simpleitk(path: Path) -> sitk.Image:
    """Read a file with SimpleITK; an image with two axes becomes one slice, as nnU-Net's SimpleITKIO does it."""
    import SimpleITK as sitk  # noqa: N813

    from nnunet_semisam.data.geometry_of_images import FLAT

    image = sitk.ReadImage(str(path))
    if image.GetDimension() != 2:
        return image
    return sitk.JoinSeries([image], 0.0, FLAT * max(image.GetSpacing()))


def read_tiff(path: Path, spacing_file: Path | None) -> sitk.Image:
    """Read a tif volume as nnU-Net's Tiff3DIO does, which prints a line for every file without spacing.

    Args:
        path: The file.
        spacing_file: Holds ``{"spacing": [z, y, x]}``; ``None`` stands for 1 mm along every axis.

    Raises:
        ValueError: If the file does not have three axes, or the spacing is not three positive numbers.
    """
    import numpy as np
    import tifffile

    voxels = tifffile.imread(path)
    if voxels.ndim != 3:
        raise ValueError(f"it has {voxels.ndim} axes, nnU-Net's {TIFF} needs 3")
    if spacing_file is None:
        return as_image(voxels[None].astype(np.float32), (1, 1, 1))
    return as_image(voxels[None].astype(np.float32), read_spacing(spacing_file))


def as_image(channels: np.ndarray, spacing: Iterable[float]) -> sitk.Image:
    """Return channels as one image.

    Args:
        channels: (channels, z, y, x), float32.
        spacing: Millimetres along z, y, x.
    """
    import SimpleITK as sitk  # noqa: N813

    images = [sitk.GetImageFromArray(each) for each in channels]
    image = images[0] if len(images) == 1 else sitk.Compose(images)
    image.SetSpacing([float(each) for each in spacing][::-1])
    return image
