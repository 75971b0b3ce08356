"""What a SAM is prompted with: connected components of each class in each image, and what surrounds them.

Shapes in this file: ``N`` slices (or volumes), ``K`` foreground channels, ``*S`` the ``D`` spatial axes, ``*W`` the
axes of a component's window, ``M`` components.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
import torch
from torch import Tensor

from nnunet_semisam.sam.base import PromptBatch
from nnunet_semisam.settings import SettingsBlock, setting, settings_block


@settings_block("components", used=lambda settings: settings.run.use_sam)
@dataclass(frozen=True, kw_only=True)
class ComponentSettings(SettingsBlock):
    """Which connected components are prompted, and how much of their surroundings a mask may change."""

    min_voxels_2d: int = setting(
        10, "Smallest component in a slice, in voxels: smaller ones are noise more often than anatomy.", low=1
    )
    min_voxels_3d: int = setting(30, "Smallest component in a volume, in voxels.", low=1)
    neighbours_2d: int = setting(8, "Neighbours of a pixel that belong to its component.", choices=(4, 8))
    neighbours_3d: int = setting(26, "Neighbours of a voxel that belong to its component.", choices=(6, 18, 26))
    max_components: int = setting(
        8,
        """Largest number of components of one class in one image, largest first: a noisy network must not flood the SAM
        with prompts.""",
        low=1,
    )
    window_margin: float = setting(
        0.25,
        "Share of the box's extent by which a component's window exceeds the box on each side.",
        low=0,
    )
    window_margin_voxels: int = setting(2, "Smallest margin of a window in voxels.", low=0)

    def min_voxels(self, axes: int) -> int:
        """Return the smallest component of an image of two or three axes."""
        return self.min_voxels_2d if axes == 2 else self.min_voxels_3d


DEFAULT = ComponentSettings()


@dataclass(frozen=True)
class Component:
    """One connected component of one class.

    Attributes:
        image: Which image it lies in.
        channel: Which foreground channel it belongs to.
        box: First and one past the last voxel along each axis, tight, ``(D, 2)``, int.
        window: The component's neighbourhood: its box plus a margin, clipped to the image.
        inside: The component itself, ``(*W)``, bool.
        member: The whole class within the window, other components included, ``(*W)``, bool.
        other: The other classes within the window, ``(*W)``, bool; all False for overlapping regions.
        odds: Probability of the class against its strongest rival, ``(*W)``, in [0, 1]; above 0.5 for members.
    """

    image: int
    channel: int
    box: np.ndarray
    window: tuple[slice, ...]
    inside: np.ndarray
    member: np.ndarray
    other: np.ndarray
    odds: np.ndarray

    @property
    def voxels(self) -> int:
        """Return the size of the component."""
        return int(self.inside.sum())


def odds(probs: Tensor, overlapping: bool) -> Tensor:
    """Return each channel's probability against its strongest rival.

    For classes this is ``p / (p + max of the other classes and the background)``, so that a voxel is above 0.5 in
    exactly the class that ``argmax`` gives it to. For regions it is ``probs`` itself (rival: not being in the region).

    Args:
        probs: ``(N, K, *S)``, in [0, 1], without the background's channel.
        overlapping: Whether the channels are regions that may overlap (sigmoid) instead of classes that exclude each
            other and a background (softmax).

    Returns:
        ``(N, K, *S)``, float32, in [0, 1].
    """
    probs = probs.float()
    if overlapping:
        return probs
    total = probs.sum(dim=1, keepdim=True)
    everything = torch.cat([(1 - total).clamp(min=0), probs], dim=1)
    best, second = everything.topk(2, dim=1).values.split(1, dim=1)
    rival = torch.where(probs == best, second, best)
    return probs / (probs + rival)


def find_components(
    probs: Tensor, overlapping: bool, settings: ComponentSettings = DEFAULT, images_at_once: int | None = None
) -> list[Component]:
    """Return the components to prompt with: by image, then by channel, then from large to small.

    Too small components are dropped, and all but the largest of a class in an image.

    Args:
        probs: Foreground probabilities of the specialist, ``(N, K, *S)`` with two or three axes ``*S``, in [0, 1].
        overlapping: Whether the channels are regions that may overlap.
        settings: The block ``components``.
        images_at_once: Images that are looked at together, to bound the memory; ``None``: all.

    Raises:
        ValueError: If ``probs`` has another number of axes.

    Example:
        >>> probs = torch.zeros(1, 1, 20, 20)
        >>> probs[..., 4:8, 10:16] = 0.9
        >>> component, = find_components(probs, overlapping=False)
        >>> component.voxels, component.box.tolist()
        (24, [[4, 8], [10, 16]])
    """
    if probs.ndim not in (4, 5):
        raise ValueError(f"probs must be (N, K, *S) with 2 or 3 spatial axes, got shape {tuple(probs.shape)}.")
    components: list[Component] = []
    step = images_at_once or max(1, len(probs))
    for start in range(0, len(probs), step):
        components += _find_in_group(probs[start : start + step], start, overlapping, settings)
    return components


def _find_in_group(probs: Tensor, first_image: int, overlapping: bool, settings: ComponentSettings) -> list[Component]:
    odds_of = odds(probs, overlapping).detach().cpu().numpy()
    member = odds_of > 0.5
    components: list[Component] = []
    for i, channel in np.argwhere(member.reshape(*member.shape[:2], -1).any(axis=2)):
        found = _Channel(odds_of[i], member[i], int(first_image + i), int(channel), overlapping)
        components += found.components(settings)
    return components


@dataclass(frozen=True)
class _Channel:
    """One foreground channel of one image; ``odds`` and ``member`` are ``(K, *S)``."""

    odds: np.ndarray
    member: np.ndarray
    image: int
    channel: int
    overlapping: bool

    def components(self, settings: ComponentSettings) -> list[Component]:
        """Return the components, from large to small."""
        axes = self.member.ndim - 1
        neighbours = settings.neighbours_2d if axes == 2 else settings.neighbours_3d
        numbered = cc3d.connected_components(self.member[self.channel], connectivity=neighbours)
        statistics = cc3d.statistics(numbered)
        counts = np.array(statistics["voxel_counts"], dtype=np.int64)
        counts[0] = 0  # the background
        by_size = np.argsort(-counts, kind="stable")[: settings.max_components]
        found = []
        for number in by_size[counts[by_size] >= settings.min_voxels(axes)]:
            bounds = statistics["bounding_boxes"][number][:axes]
            box = np.array([[bound.start, bound.stop] for bound in bounds])
            found.append(self._component(numbered, number, box, settings))
        return found

    def _component(self, numbered: np.ndarray, number: int, box: np.ndarray, settings: ComponentSettings) -> Component:
        window = window_of(box, numbered.shape, settings)
        other = np.zeros(numbered[window].shape, dtype=bool)
        if not self.overlapping:
            others = self.member[(slice(None), *window)].copy()
            others[self.channel] = False
            other = others.any(axis=0)
        return Component(
            image=self.image,
            channel=self.channel,
            box=box,
            window=window,
            inside=numbered[window] == number,
            # copies, so that a few windows do not keep whole volumes in memory
            member=self.member[self.channel][window].copy(),
            other=other,
            odds=self.odds[self.channel][window].copy(),
        )


def window_of(box: np.ndarray, image_shape: Sequence[int], settings: ComponentSettings = DEFAULT) -> tuple[slice, ...]:
    """Return the neighbourhood of a box ``(D, 2)``: by default a quarter of its extent, at least 2 voxels."""
    window = []
    for (first, last), size in zip(box, image_shape, strict=True):
        margin = max(settings.window_margin_voxels, int(np.ceil(settings.window_margin * (last - first))))
        window.append(slice(max(0, int(first) - margin), min(size, int(last) + margin)))
    return tuple(window)


def to_prompts(components: Sequence[Component], labels: Sequence[int], **kinds: np.ndarray) -> PromptBatch:
    """Return prompts for ``components``, on the CPU.

    Args:
        components: ``M`` components.
        labels: Label of each foreground channel.
        kinds: ``boxes``, ``points`` with ``point_labels``, ``mask_logits`` as :class:`PromptBatch` describes them.

    Raises:
        ValueError: If a component's channel has no label.
    """
    if any(component.channel >= len(labels) for component in components):
        raise ValueError(f"Every foreground channel that a component belongs to needs a label, got {list(labels)}.")
    return PromptBatch(
        image=torch.tensor([component.image for component in components], dtype=torch.int64),
        label=torch.tensor([labels[component.channel] for component in components], dtype=torch.int64),
        **{name: torch.from_numpy(array) for name, array in kinds.items()},
    )
