"""Chains of components through consecutive slices: what is there in one slice alone is most likely no anatomy.

The "physical constraints with a sliding window" (PCSW) of SSS, https://arxiv.org/abs/2506.08949: components of
neighbouring slices are linked where they overlap and their centres stay together, chains are collected depth-first,
short ones are dropped, and boxes are smoothed along each chain. Window, overlap, shift and length are not published;
they are settings here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from nnunet_semisam.prompts.base import FILTERS, ComponentFilter
from nnunet_semisam.prompts.components import Component


@FILTERS.register("chains")
class Chains(ComponentFilter):
    """Keeps components that go on through several slices, with boxes smoothed along their chain.

    A case that shows its components in one image only, the first, has no neighbours to ask, and nothing is dropped. In
    a volume a component is a chain by itself: it has to span ``chain_length`` voxels along every axis.

    Example:
        >>> import torch
        >>> from nnunet_semisam.prompts.components import find_components
        >>> probs = torch.zeros(5, 1, 30, 30)
        >>> probs[1:4, :, 5:15, 5:15] = 0.9  # three slices
        >>> probs[4, :, 20:26, 20:26] = 0.9  # one slice, elsewhere
        >>> [component.image for component in Chains()(find_components(probs, overlapping=False))]
        [1, 2, 3]
    """

    def __call__(self, components: Sequence[Component]) -> Sequence[Component]:
        """Return the components of chains that are long enough, in their order; see :class:`ComponentFilter`."""
        length = self.settings.chain_length
        if any(len(component.box) == 3 for component in components):
            return [each for each in components if (each.box[:, 1] - each.box[:, 0]).min() >= length]
        if all(component.image == 0 for component in components):
            return components
        kept: dict[int, Component] = {}
        links = self._links(components)
        for chain in self._chains(components, links):
            if len({components[index].image for index in chain}) >= length:
                kept |= {index: self._smoothed(components, index, links[index]) for index in chain}
        return [kept[index] for index in sorted(kept)]

    def _chains(self, components: Sequence[Component], links: Mapping[int, Sequence[int]]) -> list[list[int]]:
        """Return the indices of the components of each chain, collected depth-first."""
        chains, seen = [], set()
        for start in range(len(components)):
            chain, waiting = [], [start]
            while waiting:
                index = waiting.pop()
                if index not in seen:
                    seen.add(index)
                    chain.append(index)
                    waiting += links[index]
            if chain:
                chains.append(chain)
        return chains

    def _links(self, components: Sequence[Component]) -> dict[int, list[int]]:
        """Return component -> components that it is linked to, by index."""
        in_slice: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, component in enumerate(components):
            in_slice[component.channel, component.image].append(index)
        links: dict[int, list[int]] = defaultdict(list)
        for index, component in enumerate(components):
            for step in range(1, self.settings.chain_window):
                for other in in_slice.get((component.channel, component.image + step), ()):
                    if self._continues(component, components[other]):
                        links[index].append(other)
                        links[other].append(index)
        return links

    def _continues(self, first: Component, second: Component) -> bool:
        """Return whether two components of different slices may be one structure."""
        smaller = min(first.voxels, second.voxels)
        if overlap(first, second) < self.settings.chain_overlap * smaller:
            return False
        diameter = 2 * np.sqrt(max(first.voxels, second.voxels) / np.pi)
        return float(np.linalg.norm(centre(first) - centre(second))) <= self.settings.chain_shift * diameter

    def _smoothed(self, components: Sequence[Component], index: int, linked: Sequence[int]) -> Component:
        """Return a component with the mean box of what it continues within the window around it, rounded outwards.

        Where a structure forks, the other branch is of the same chain and no continuation of this one: each slice
        counts with one box, around all components of it that this one is linked to.
        """
        component, reach = components[index], self.settings.chain_window // 2
        boxes = {component.image: component.box}
        for other in (components[i] for i in linked):
            if abs(other.image - component.image) <= reach:
                boxes[other.image] = _around(boxes.get(other.image, other.box), other.box)
        mean = np.mean(list(boxes.values()), axis=0)
        return replace(component, box=np.stack([np.floor(mean[:, 0]), np.ceil(mean[:, 1])], axis=1).astype(int))


def _around(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the box ``(D, 2)`` around two boxes."""
    return np.stack([np.minimum(first[:, 0], second[:, 0]), np.maximum(first[:, 1], second[:, 1])], axis=1)


def overlap(first: Component, second: Component) -> int:
    """Return how many pixels two components of slices of one volume share, seen along the slice axis."""
    starts = [max(a.start, b.start) for a, b in zip(first.window, second.window, strict=True)]
    stops = [min(a.stop, b.stop) for a, b in zip(first.window, second.window, strict=True)]
    if any(stop <= start for start, stop in zip(starts, stops, strict=True)):
        return 0
    parts = [
        component.inside[
            tuple(slice(i - w.start, j - w.start) for i, j, w in zip(starts, stops, component.window, strict=True))
        ]
        for component in (first, second)
    ]
    return int((parts[0] & parts[1]).sum())


def centre(component: Component) -> np.ndarray:
    """Return the centre of mass of a component in voxels of its image, ``(D,)``."""
    return np.argwhere(component.inside).mean(axis=0) + [part.start for part in component.window]
