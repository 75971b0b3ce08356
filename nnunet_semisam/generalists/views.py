"""Views: how a volume becomes the images of a SAM, and how masks become a volume again.

Shapes in this file: ``C`` channels, ``F`` foreground channels, ``N`` images, ``*S`` the axes that the SAM sees. Volumes
are ``(Z, Y, X)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from nnunet_semisam.errors import UserError, shown
from nnunet_semisam.prompts.components import Component

# Finds the components of foreground probabilities (N, F, *S).
ComponentFinder = Callable[[Tensor], list[Component]]


@dataclass(frozen=True)
class CaseGrid:
    """The voxel grid of a preprocessed case.

    Attributes:
        shape: Voxels along Z, Y, X.
        spacing: Voxel size along Z, Y, X in mm, or ``None`` if it is not known.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, float, float] | None = None


class View(Protocol):
    """Turns volumes into images and back.

    Attributes:
        name: Part of the name under which embeddings are cached: views that show other images have other names.
        spatial_dims: Axes of its images: 2 or 3.
        needs_spacing: Whether it cannot do without the spacing of the case.
        axis: Of views for 2D SAMs: the axis (0, 1 or 2) that an image is a slice across; pictures show it. Views for 3D
            SAMs have none.

    Example:
        >>> volume, grid = np.zeros((1, 5, 40, 60)), CaseGrid((5, 40, 60))
        >>> Slices(axis=1).images(volume, grid).shape
        (40, 1, 5, 60)
        >>> Slices(axis=1).back(np.zeros((40, 3, 5, 60)), grid).shape
        (3, 5, 40, 60)
    """

    name: str
    spatial_dims: int
    needs_spacing: bool

    def images(self, volume: np.ndarray, grid: CaseGrid) -> np.ndarray:
        """Return the images ``(N, C, *S)`` of a volume ``(C, Z, Y, X)``."""

    def components(self, probs: np.ndarray, grid: CaseGrid, find: ComponentFinder) -> list[Component]:
        """Return the components of foreground probabilities ``(F, Z, Y, X)``, in the images of this view."""

    def back(self, images: np.ndarray, grid: CaseGrid) -> np.ndarray:
        """Return the volume ``(F, Z, Y, X)`` of maps ``(N, F, *S)``: undoes :meth:`images`."""

    def image_of_slice(self, axis: int, index: int) -> int | None:
        """Return which image shows slice ``index`` along ``axis``; ``None``: all images may."""


@dataclass(frozen=True)
class Slices:
    """The slices along one axis, for a 2D SAM.

    Args:
        axis: 0, 1 or 2.
    """

    axis: int
    spatial_dims: ClassVar[int] = 2
    needs_spacing: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """Return the name, which holds the axis."""
        return f"slices{self.axis}"

    def images(self, volume: np.ndarray, grid: CaseGrid) -> np.ndarray:
        """Return slices ``(N, C, H, W)``; see :class:`View`."""
        return np.moveaxis(volume, self.axis + 1, 0)

    def components(self, probs: np.ndarray, grid: CaseGrid, find: ComponentFinder) -> list[Component]:
        """Return the components of each slice; see :class:`View`."""
        return find(as_tensor(self.images(probs, grid)))

    def back(self, images: np.ndarray, grid: CaseGrid) -> np.ndarray:
        """Return the volume; see :class:`View`."""
        return np.moveaxis(images, 0, self.axis + 1)

    def image_of_slice(self, axis: int, index: int) -> int | None:
        """Return ``index`` if slices are taken along ``axis``; see :class:`View`."""
        return index if axis == self.axis else None


@dataclass(frozen=True)
class WholeVolume:
    """The volume as one image, for a 3D SAM that takes any grid."""

    name: ClassVar[str] = "volume"
    spatial_dims: ClassVar[int] = 3
    needs_spacing: ClassVar[bool] = False

    def images(self, volume: np.ndarray, grid: CaseGrid) -> np.ndarray:
        """Return one image ``(1, C, Z, Y, X)``; see :class:`View`."""
        return volume[None]

    def components(self, probs: np.ndarray, grid: CaseGrid, find: ComponentFinder) -> list[Component]:
        """Return the components of the volume; see :class:`View`."""
        return find(as_tensor(self.images(probs, grid)))

    def back(self, images: np.ndarray, grid: CaseGrid) -> np.ndarray:
        """Return the volume; see :class:`View`."""
        return images[0]

    def image_of_slice(self, axis: int, index: int) -> int | None:
        """Return ``None``: the only image holds all slices."""
        return None


def require_spacing(view: View, case: str, spacing: Sequence[float] | None) -> None:
    """Refuse a case whose geometry the view needs and nobody knows.

    Raises:
        UserError: If that is so.
    """
    if view.needs_spacing and spacing is None:
        raise UserError(
            f"The view {view.name!r} needs the voxel size of case {case!r}, which is not known. Run "
            "'nnunet-semisam preprocess' for the data set, which writes it beside the preprocessed cases, or set "
            "another view."
        )


def _slices(axis: int | None, spacing: Sequence[float]) -> View:
    return Slices(slice_axis(spacing) if axis is None else axis)


def _volume(axis: int | None, spacing: Sequence[float]) -> View:
    return WholeVolume()


# what the setting view may say: functions of its axis and of the spacing of the configuration
VIEWS: dict[str, Callable[[int | None, Sequence[float]], View]] = {"slices": _slices, "volume": _volume}


def choose_view(name: str | None, axis: int | None, spatial_dims: int, spacing: Sequence[float]) -> View:
    """Return the view that settings name.

    Args:
        name: A key of ``VIEWS``; ``None``: whatever fits the SAM.
        axis: Axis of the slices; ``None`` takes :func:`slice_axis`.
        spatial_dims: Axes of the images that the SAM takes.
        spacing: Spacing of the configuration, two or three axes.

    Raises:
        UserError: If there is no such view, or the SAM does not take its images.
    """
    name = name or ("slices" if spatial_dims == 2 else "volume")
    if name not in VIEWS:
        raise UserError(f"There is no view {shown(name)}. There are {', '.join(VIEWS)}.")
    view = VIEWS[name](axis, spacing)
    if view.spatial_dims != spatial_dims:
        raise UserError(
            f"The view {name!r} makes images of {view.spatial_dims} axes, the SAM takes {spatial_dims}. Set the "
            "setting view to null."
        )
    return view


def slice_axis(spacing: Sequence[float]) -> int:
    """Return the axis (0, 1 or 2) of the largest spacing, the first of equals.

    Args:
        spacing: Voxel size in mm; two numbers are those of a 2D configuration, whose slices lie along axis 0.
    """
    return int(np.argmax(spacing)) if len(spacing) == 3 else 0


def as_tensor(array: np.ndarray) -> Tensor:
    """Return an array as a tensor on the CPU, copied only if it has to be."""
    return torch.from_numpy(np.ascontiguousarray(array))
