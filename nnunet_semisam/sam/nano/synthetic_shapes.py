"""Random smooth fields and random closed shapes, the building blocks of procedural images.

Shapes in this file: ``S`` side of the square image in pixels. Coordinates are ``(y, x)`` arrays ``(S, S)`` in pixels,
usually warped, so that analytic shapes come out irregular.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@lru_cache(maxsize=64)
def spline_basis(size: int, cells: int) -> Array:
    """Return cubic B-spline weights ``(size, cells + 3)``: a row holds the shares of the control points in a pixel."""
    position = (np.arange(size) + 0.5) / size * cells
    distance = np.abs(position[:, None] - (np.arange(cells + 3) - 1)[None])
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)


def smooth_field(rng: np.random.Generator, size: int, cells: int, count: int = 1) -> Array:
    """Return ``count`` smooth random fields ``(count, size, size)``, mean 0, standard deviation about 1.

    Args:
        rng: Source of randomness.
        size: ``S``.
        cells: Number of spline cells along a side; more is rougher.
        count: Number of fields.
    """
    basis = spline_basis(size, cells)
    control = rng.standard_normal((count, cells + 3, cells + 3), dtype=np.float32)
    return (2.1 * (basis @ control @ basis.T)).astype(np.float32)  # the splines average: 2.1 restores the spread


def grid(size: int) -> tuple[Array, Array]:
    """Return pixel coordinates ``(y, x)``, each ``(S, S)``."""
    axis = np.arange(size, dtype=np.float32)
    return np.broadcast_to(axis[:, None], (size, size)), np.broadcast_to(axis[None, :], (size, size))


def warped_grid(rng: np.random.Generator, size: int, strength: float) -> tuple[Array, Array]:
    """Return pixel coordinates moved by a smooth random displacement.

    Args:
        rng: Source of randomness.
        size: ``S``.
        strength: Standard deviation of the displacement as a fraction of its wavelength; above 0.3 it may fold.
    """
    y, x = (axis.copy() for axis in grid(size))
    for cells in (int(rng.integers(3, 6)), int(rng.integers(8, 17))):
        amplitude = strength * size / cells * 0.5
        shift = smooth_field(rng, size, cells, 2)
        y += amplitude * shift[0]
        x += amplitude * shift[1]
    return y, x


@dataclass(frozen=True)
class Oval:
    """An ellipse whose radius wobbles with the angle.

    Attributes:
        centre: ``(y, x)`` in pixels.
        radii: Half axes in pixels.
        angle: Rotation in radians.
        wobble: Amplitudes of the harmonics 2, 3, ... of the radius, as fractions.
        phases: Their phases in radians.
    """

    centre: tuple[float, float]
    radii: tuple[float, float]
    angle: float = 0.0
    wobble: tuple[float, ...] = ()
    phases: tuple[float, ...] = ()

    def level(self, y: Array, x: Array) -> Array:
        """Return the normalised radius ``(S, S)``: below 1 is inside; 9 far away, where nothing is computed."""
        result = np.full(y.shape, 9.0, dtype=np.float32)
        reach = 2.0 * max(self.radii) + 0.1 * len(y)  # the warp moves things by less than a tenth of the image
        rows, columns = (slice(max(0, int(c - reach)), max(0, int(c + reach) + 1)) for c in self.centre)
        result[rows, columns] = self._level(y[rows, columns], x[rows, columns])
        return result

    def _level(self, y: Array, x: Array) -> Array:
        dy, dx = y - np.float32(self.centre[0]), x - np.float32(self.centre[1])
        cos, sin = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        u = (cos * dy + sin * dx) / np.float32(self.radii[0])
        v = (cos * dx - sin * dy) / np.float32(self.radii[1])
        radius = np.sqrt(u * u + v * v)
        if self.wobble:
            theta = np.arctan2(v, u)
            edge = np.ones_like(radius)
            for order, (amplitude, phase) in enumerate(zip(self.wobble, self.phases, strict=True), start=2):
                edge += np.float32(amplitude) * np.cos(order * theta + np.float32(phase))
            radius /= np.maximum(edge, np.float32(0.2))
        return radius

    def scaled(self, factor: float, shift: tuple[float, float] = (0.0, 0.0)) -> Oval:
        """Return the shape with its radii multiplied and its centre moved by ``shift`` pixels."""
        centre = (self.centre[0] + shift[0], self.centre[1] + shift[1])
        return replace(self, centre=centre, radii=(self.radii[0] * factor, self.radii[1] * factor))


def random_oval(
    rng: np.random.Generator, centre: tuple[float, float], radius: float, squeeze: float = 0.5, wobble: float = 0.15
) -> Oval:
    """Return an oval around ``centre``.

    Args:
        rng: Source of randomness.
        centre: ``(y, x)`` in pixels.
        radius: Geometric mean of the half axes in pixels.
        squeeze: Largest log ratio between half axis and radius.
        wobble: Largest amplitude of the harmonics.
    """
    ratio = float(np.exp(rng.uniform(-squeeze, squeeze)))
    count = int(rng.integers(0, 4))
    amplitudes = tuple(float(a) / (k + 1) for k, a in enumerate(rng.uniform(0, wobble, count)))
    phases = tuple(float(p) for p in rng.uniform(0, 2 * np.pi, count))
    return Oval(centre, (radius * ratio, radius / ratio), float(rng.uniform(0, np.pi)), amplitudes, phases)


def wedge(y: Array, x: Array, centre: tuple[float, float], angle: float, width: float) -> NDArray[np.bool_]:
    """Return where the direction from ``centre`` lies within ``width`` radians around ``angle``, ``(S, S)``."""
    direction = np.arctan2(y - centre[0], x - centre[1]) - angle
    return np.abs((direction + np.pi) % (2 * np.pi) - np.pi) < width / 2
