"""The grid that 3D SAMs were trained on: voxels of one size along all axes, which lead to the right, front and head.

Shapes in this file: ``F`` channels. Volumes of a case are ``(Z, Y, X)``; ``(R, A, S)`` are the axes of the canonical
grid, which lead to the patient's right, front (anterior) and head (superior).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from nibabel.orientations import io_orientation
from scipy import ndimage

from nnunet_semisam.data.geometry import Matrix
from nnunet_semisam.errors import UserError

Window = tuple[slice, ...]
MOST_VOXELS = 2**29  # 2 GiB of float32; a body of 2 m x 0.6 m x 0.6 m has 2**28 at 1.4 mm


@dataclass(frozen=True)
class CanonicalGrid:
    """Where a case lies in the canonical grid.

    Both grids begin at the same corner of the volume: the centre of canonical voxel ``j`` is ``(j + 0.5) * spacing``
    millimetres from it.

    Attributes:
        case_shape: Voxels of the case along Z, Y, X.
        case_spacing: Their size in mm.
        direction: Column ``i`` is the unit vector along array axis ``i`` in patient coordinates (z, y, x), which lead
            to head, back and left; see :mod:`nnunet_semisam.data.geometry`.
        spacing: Size of canonical voxels in mm.

    Example:
        >>> from nnunet_semisam.data.geometry import UPRIGHT
        >>> grid = CanonicalGrid((10, 40, 60), (3.0, 1.5, 0.75), UPRIGHT, spacing=1.5)
        >>> grid.shape
        (30, 40, 20)
        >>> volume = np.zeros((1, 10, 40, 60), dtype=np.float32)
        >>> volume[:, 8:, :5] = 1.0  # near the head, at the front
        >>> canonical = grid.to_canonical(volume)
        >>> float(canonical[0, :, -4:, -3:].min()), float(canonical[0, :, :30].max())
        (1.0, 0.0)
        >>> window = (slice(0, 30), slice(20, 40), slice(15, 20))
        >>> grid.case_window(window)
        (slice(7, 10, None), slice(0, 20, None), slice(0, 60, None))
        >>> back = grid.to_case(canonical[(0, *window)], window) > 0.5
        >>> np.array_equal(back, volume[0][grid.case_window(window)] > 0.5)
        True
    """

    case_shape: tuple[int, ...]
    case_spacing: tuple[float, ...]
    direction: Matrix
    spacing: float

    def __post_init__(self) -> None:
        voxels = float(np.prod([float(size) for size in self._ideal_shape()]))
        if voxels > MOST_VOXELS:
            raise UserError(
                f"A case of {self.case_shape} voxels of {tuple(round(mm, 3) for mm in self.case_spacing)} mm has "
                f"{voxels:.3g} voxels of {self.spacing} mm; at most {MOST_VOXELS:.3g} are allowed. Are the spacings of "
                "the images right? If they are, set tile_spacing in the model's block to a larger voxel, or take a 2D "
                "model."
            )

    @cached_property
    def _orientation(self) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
        """Return which array axis each canonical axis is, and whether it runs the other way."""
        affine = np.eye(4)
        to_ras = np.diag([-1.0, -1.0, 1.0])  # patient axes here lead to left and back
        affine[:3, :3] = to_ras @ np.asarray(self.direction)[::-1]
        found = io_orientation(affine)
        axes = [int(np.flatnonzero(found[:, 0] == canonical)[0]) for canonical in range(3)]
        flips = [bool(found[axis, 1] < 0) for axis in axes]
        return (axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2])

    @property
    def axes(self) -> tuple[int, int, int]:
        """Return the array axis that each canonical axis is."""
        return self._orientation[0]

    @property
    def flipped(self) -> tuple[int, ...]:
        """Return the canonical axes that run against their array axis."""
        return tuple(axis for axis, flip in enumerate(self._orientation[1]) if flip)

    def _ideal_shape(self) -> list[int]:
        return [max(1, round(self.case_shape[axis] * self.case_spacing[axis] / self.spacing)) for axis in (0, 1, 2)]

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the voxels of the canonical grid along R, A, S."""
        ideal = self._ideal_shape()
        return tuple(ideal[axis] for axis in self.axes)

    @property
    def _steps(self) -> list[float]:
        """Return canonical voxels per voxel of the case, along R, A, S."""
        return [self.case_spacing[axis] / self.spacing for axis in self.axes]

    def to_canonical(self, volume: np.ndarray) -> np.ndarray:
        """Return a volume ``(F, Z, Y, X)`` on the canonical grid, ``(F, R, A, S)``, float32; linear interpolation."""
        turned = np.transpose(volume, (0, *(1 + axis for axis in self.axes)))
        turned = np.flip(turned, [1 + axis for axis in self.flipped])
        starts = [0.0] * 3
        ends = self.shape
        return np.stack([_resample(channel, [1 / s for s in self._steps], starts, ends) for channel in turned])

    def case_window(self, window: Window) -> Window:
        """Return the voxels of the case whose centres lie in a window of the canonical grid, as slices along Z, Y, X.

        The window's end is the end of the case, where it is that of the canonical grid.
        """
        slices: list[slice] = [slice(0)] * 3
        for canonical, (axis, side) in enumerate(zip(self.axes, window, strict=True)):
            size, step = self.case_shape[axis], self._steps[canonical]
            first = min(size, max(0, int(np.ceil(side.start / step - 0.5))))
            last = min(size, int(np.ceil(side.stop / step - 0.5)))
            if side.stop >= self.shape[canonical]:
                last = size
            slices[axis] = slice(size - last, size - first) if canonical in self.flipped else slice(first, last)
        return tuple(slices)

    def to_case(self, values: np.ndarray, window: Window) -> np.ndarray:
        """Return values of a window of the canonical grid on the case's own grid.

        Args:
            values: ``(r, a, s)``, those of ``window``.
            window: Of the canonical grid, as slices along R, A, S.

        Returns:
            ``(z, y, x)``, float32, the voxels of :meth:`case_window`; linear interpolation.
        """
        target = self.case_window(window)
        starts, ends = [], []
        for canonical, axis in enumerate(self.axes):
            size, side = self.case_shape[axis], target[axis]
            first, last = (
                (size - side.stop, size - side.start) if canonical in self.flipped else (side.start, side.stop)
            )
            starts.append(first - window[canonical].start / self._steps[canonical])
            ends.append(last - first)
        sampled = _resample(values, self._steps, starts, ends)
        return np.transpose(np.flip(sampled, self.flipped), np.argsort(self.axes))


def _resample(values: np.ndarray, steps: Sequence[float], starts: Sequence[float], shape: Sequence[int]) -> np.ndarray:
    """Return ``values`` at voxels ``step`` old voxels wide; the first begins ``start`` new voxels from the edge."""
    offset = [(start + 0.5) * step - 0.5 for start, step in zip(starts, steps, strict=True)]
    if min(shape) == 0:
        return np.zeros(shape, dtype=np.float32)
    source = np.asarray(values, dtype=np.float32)
    return ndimage.affine_transform(
        source, np.asarray(steps), offset, tuple(shape), output=np.float32, order=1, mode="nearest"
    )
