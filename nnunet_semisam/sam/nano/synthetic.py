"""Procedural, domain-randomised images with many things in them that can be prompted for. No real image is involved.

The idea is SynthSeg's: if contrast, texture, blur, bias and noise are drawn at random, a network learns to see shapes
rather than a scanner. Scenes hold ovals, rings with things inside, crescents beside rings, tubes and smooth label
fields behind them.

Source: Billot et al., SynthSeg, https://arxiv.org/abs/2107.09559 (the idea; nothing of its code or data).
Shapes in this file: ``S`` side of the square image in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from nnunet_semisam.sam.nano.synthetic_shapes import (
    Array,
    Oval,
    random_oval,
    smooth_field,
    warped_grid,
    wedge,
)

SMALLEST_AREA = 24  # pixels; less cannot be told from noise


@dataclass
class Scene:
    """Regions under construction.

    Attributes:
        regions: Region index of every pixel, ``(S, S)``, int16.
        means: Intensity of each region.
        objects: Things that may be prompted for, each a union of regions.
        speckles: Regions drawn into the intensity only (papillary muscles belong to the blood pool): mask, intensity.
    """

    regions: NDArray[np.int16]
    means: list[float]
    objects: list[tuple[int, ...]] = field(default_factory=list)
    speckles: list[tuple[NDArray[np.bool_], float]] = field(default_factory=list)

    def paint(self, mask: NDArray[np.bool_], mean: float) -> int:
        """Cover ``mask`` with a new region of intensity ``mean`` and return its index."""
        self.means.append(mean)
        self.regions[mask] = len(self.means) - 1
        return len(self.means) - 1


def background(rng: np.random.Generator, size: int, palette: Array) -> Scene:
    """Return a scene of smooth label fields, sometimes within a body outline with air around it."""
    count = int(rng.integers(2, 9))
    fields = smooth_field(rng, size, int(rng.integers(2, 9)), count)
    scene = Scene(fields.argmax(0).astype(np.int16), [pick(rng, palette) for _ in range(count)])
    scene.objects += [(index,) for index in range(count)] if rng.random() < 0.15 else []
    if rng.random() < 0.5:
        y, x = warped_grid(rng, size, 0.15)
        middle = size / 2 + rng.uniform(-0.15, 0.15, 2) * size
        body = random_oval(rng, (middle[0], middle[1]), size * rng.uniform(0.38, 0.7), 0.25, 0.06)
        level = body.level(y, x)
        if rng.random() < 0.6:
            scene.paint((level > rng.uniform(0.8, 0.95)) & (level < 1), pick(rng, palette))
        scene.paint(level >= 1, float(rng.uniform(0, 0.1)))
    return scene


def pick(rng: np.random.Generator, palette: Array) -> float:
    """Return an intensity near one of the palette's, so that different organs may look alike."""
    return float(rng.choice(palette) + rng.normal(0, 0.03))


def away_from(rng: np.random.Generator, other: float, gap: float = 0.15) -> float:
    """Return an intensity in [0, 1] that differs from ``other`` by at least ``gap``."""
    below, above = max(other - gap, 0.0), max(1.0 - other - gap, 0.0)
    position = rng.uniform(0, below + above)
    return float(position if position < below else position - below + other + gap)


def random_radius(rng: np.random.Generator, size: int, easy: float, frame: int) -> float:
    """Return a radius in pixels; ``easy`` in [0, 1] moves small things out of the distribution."""
    low, high = (0.016 + 0.05 * easy) * frame, min(0.27 * frame, 0.36 * size)
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def add_heart(rng: np.random.Generator, scene: Scene, y: Array, x: Array, radius: float, palette: Array) -> None:
    """Paint a ring with a pool inside and, mostly, a crescent beside it: the short axis of a heart, seen abstractly."""
    size = len(y)
    centre = tuple(rng.uniform(0.2, 0.8, 2) * size)
    outer = random_oval(rng, centre, radius, 0.15, 0.05)
    inner = outer.scaled(1 - rng.uniform(0.15, 0.6), tuple(rng.normal(0, 0.04 * radius, 2)))
    muscle = float(np.clip(pick(rng, palette), 0, 1))
    blood = away_from(rng, muscle)
    ring, pool = outer.level(y, x), inner.level(y, x)
    angle = rng.uniform(0, 2 * np.pi)
    if rng.random() < 0.85:
        add_crescent(rng, scene, (y, x), outer, angle, (blood, muscle))
    wall = scene.paint((ring < 1) & (pool >= 1), muscle)
    cavity = scene.paint((ring < 1) & (pool < 1), blood + rng.normal(0, 0.03))
    if rng.random() < 0.15:
        gap = wedge(y, x, centre, rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 1.5))
        scene.paint((ring < 1) & (pool >= 1) & gap, away_from(rng, muscle))
    add_speckles(rng, scene, (y, x), inner, muscle)
    scene.objects += [(wall,), (wall,), (cavity,), (wall, cavity)]


def add_crescent(
    rng: np.random.Generator,
    scene: Scene,
    where: tuple[Array, Array],
    ring: Oval,
    angle: float,
    means: tuple[float, float],
) -> None:
    """Paint an oval beside ``ring``, to be covered by it; ``means`` are the intensities of blood and muscle."""
    radius = float(np.sqrt(ring.radii[0] * ring.radii[1]))
    reach = radius * rng.uniform(0.5, 1.3)
    centre = (ring.centre[0] + reach * np.sin(angle), ring.centre[1] + reach * np.cos(angle))
    across, along = radius * rng.uniform(0.45, 0.95), radius * rng.uniform(0.7, 1.35)
    wobble, phases = tuple(rng.uniform(0, 0.1, 2)), tuple(rng.uniform(0, 2 * np.pi, 2))
    oval = Oval(centre, (along, across), -angle + rng.normal(0, 0.3), wobble, phases)
    level = oval.level(*where)
    blood = means[0] if rng.random() < 0.7 else away_from(rng, means[1])
    if rng.random() < 0.7:  # the thin free wall: muscle that nobody prompts for
        scene.paint((level >= 1) & (level < 1 + rng.uniform(1.5, 4) / across), means[1])
    crescent = scene.paint(level < 1, blood + rng.normal(0, 0.03))
    if rng.random() < 0.5:
        add_speckles(rng, scene, where, oval, means[1])
    scene.objects += [(crescent,), (crescent,)]


def add_speckles(rng: np.random.Generator, scene: Scene, where: tuple[Array, Array], pool: Oval, mean: float) -> None:
    """Draw small spots of another intensity inside ``pool`` that still belong to it."""
    radius = min(pool.radii)
    for _ in range(int(rng.integers(0, 4))):
        angle, reach = rng.uniform(0, 2 * np.pi), radius * rng.uniform(0.3, 0.9)
        centre = (pool.centre[0] + reach * np.sin(angle), pool.centre[1] + reach * np.cos(angle))
        spot = random_oval(rng, centre, radius * rng.uniform(0.08, 0.28), 0.4)
        scene.speckles.append(((spot.level(*where) < 1) & (pool.level(*where) < 1), mean))


def add_ring(rng: np.random.Generator, scene: Scene, y: Array, x: Array, radius: float, palette: Array) -> None:
    """Paint a ring, or a C where a wedge is left open, with something of another intensity inside."""
    size = len(y)
    centre = tuple(rng.uniform(0.1, 0.9, 2) * size)
    outer = random_oval(rng, centre, radius, 0.4, 0.1)
    inner = outer.scaled(1 - rng.uniform(0.15, 0.7), tuple(rng.normal(0, 0.07 * radius, 2)))
    mean = float(np.clip(pick(rng, palette), 0, 1))
    band = (outer.level(y, x) < 1) & (inner.level(y, x) >= 1)
    if rng.random() < 0.4:
        band &= ~wedge(y, x, centre, rng.uniform(0, 2 * np.pi), rng.uniform(0.4, 3.5))
        scene.objects.append((scene.paint(band, mean),))
        return
    inside = scene.paint(outer.level(y, x) < 1, away_from(rng, mean))
    wall = scene.paint(band, mean)
    scene.objects += [(wall,), (inside,), (wall, inside)]


def add_oval(rng: np.random.Generator, scene: Scene, y: Array, x: Array, radius: float, palette: Array) -> None:
    """Paint an irregular oval, sometimes a crescent or a rough blob."""
    size = len(y)
    centre = tuple(rng.uniform(0.05, 0.95, 2) * size)
    shape = random_oval(rng, centre, radius, 0.7, 0.25)
    mask = shape.level(y, x) < 1
    kind = rng.random()
    if kind < 0.25:
        mask &= shape.scaled(rng.uniform(0.7, 1.1), tuple(rng.normal(0, 0.6 * radius, 2))).level(y, x) >= 1
    elif kind < 0.5:
        rough = smooth_field(rng, size, int(np.clip(size / radius, 4, 40)))[0]
        mask = shape.level(y, x) + 0.3 * rough < 1
    behind = np.asarray(scene.means, dtype=np.float32)[scene.regions[mask]]
    visible = rng.random() < 0.85 and len(behind) > 0
    mean = away_from(rng, float(np.clip(behind.mean(), 0, 1)), 0.12) if visible else pick(rng, palette)
    scene.objects.append((scene.paint(mask, mean),))


def random_scene(rng: np.random.Generator, size: int, easy: float = 0.0, frame: int | None = None) -> Scene:
    """Return a scene of several objects; later ones cover earlier ones.

    Args:
        rng: Source of randomness.
        size: ``S``.
        easy: In [0, 1]: 1 has large things only.
        frame: Side of the SAM's input, which things are scaled to; ``None`` if that is ``size``.
    """
    frame = size if frame is None else frame
    palette = rng.uniform(0, 1, int(rng.integers(3, 9))).astype(np.float32)
    scene = background(rng, size, palette)
    y, x = warped_grid(rng, size, rng.uniform(0.02, 0.2))
    makers = [add_oval] * int(rng.integers(1, 7)) + [add_ring] * int(rng.integers(0, 3))
    makers = [makers[i] for i in rng.permutation(len(makers))]
    for maker in makers:
        maker(rng, scene, y, x, random_radius(rng, size, easy, frame), palette)
    for _ in range(int(rng.choice(3, p=(0.25, 0.6, 0.15)))):
        low, high = (0.03 + 0.04 * easy) * frame, min(0.22 * frame, 0.3 * size)
        heart = np.exp(rng.uniform(np.log(low), np.log(high)))
        add_heart(rng, scene, *warped_grid(rng, size, rng.uniform(0.01, 0.15)), float(heart), palette)
    return scene


def render(rng: np.random.Generator, scene: Scene) -> Array:
    """Return an image of the scene, ``(S, S)``, float32, in arbitrary units, as a random scanner might show it."""
    size = len(scene.regions)
    image = np.asarray(scene.means, dtype=np.float32)[scene.regions]
    for mask, mean in scene.speckles:
        image[mask] = mean
    roughness = rng.uniform(0, 0.08, len(scene.means)).astype(np.float32)[scene.regions]
    image += roughness * smooth_field(rng, size, int(rng.integers(16, 100)))[0]
    image += np.float32(rng.uniform(0, 0.08)) * smooth_field(rng, size, int(rng.integers(4, 16)))[0]
    image = gaussian_filter(image, rng.uniform(0.3, 1.0) if rng.random() < 0.7 else rng.uniform(1.0, 2.2))
    image *= np.exp(np.float32(rng.uniform(0, 0.35)) * smooth_field(rng, size, int(rng.integers(1, 4)))[0])
    noise = rng.standard_normal((size, size), dtype=np.float32) * np.float32(min(rng.exponential(0.025), 0.08))
    if rng.random() < 0.6:
        noise = 2.5 * gaussian_filter(noise, rng.uniform(0.5, 1.0))
    image = np.abs(image + noise) if rng.random() < 0.5 else image + noise  # magnitude images are never negative
    image = image - image.min()
    return (image / max(float(image.max()), 1e-6)) ** np.float32(np.exp(rng.uniform(-0.5, 0.5)))


def object_masks(scene: Scene, count: int, rng: np.random.Generator, smallest: int) -> NDArray[np.bool_]:
    """Return ``count`` masks of things in the scene, ``(count, S, S)``; a thing may be chosen twice.

    Args:
        scene: Painted regions.
        count: Number of masks.
        rng: Source of randomness.
        smallest: Least number of visible pixels.

    Raises:
        LookupError: If nothing in the scene is large enough.
    """
    areas = np.bincount(scene.regions.ravel(), minlength=len(scene.means))
    usable = [ids for ids in scene.objects if sum(areas[i] for i in ids) >= smallest]
    if not usable:
        raise LookupError("No object of the scene is large enough to be prompted for.")
    chosen = [usable[i] for i in rng.permutation(len(usable))]
    chosen = (chosen * (count // len(chosen) + 1))[:count]
    return np.stack([np.isin(scene.regions, ids) for ids in chosen])
