"""The things to ask about: connected components of each class in each image, and what surrounds them.

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

MIN_VOXELS = {2: 10, 3: 30}  # by number of axes; smaller components are noise more often than anatomy: not asked about
MAX_COMPONENTS = 8  # of one class in one image, largest first: a noisy network must not flood the SAM with questions
WINDOW_MARGIN = 0.25  # share of the box's extent by which the window exceeds the box, on each side
SUM_TOLERANCE = 1e-2  # softmax outputs in half precision do not sum to 1 exactly


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


def odds(probs: Tensor, overlapping: bool | None = None) -> Tensor:
    """Return each channel's probability against its strongest rival.

    For classes this is ``p / (p + max of the other classes and the background)``, so that a voxel is above 0.5 in
    exactly the class that ``argmax`` gives it to. For regions it is ``probs`` itself (rival: not being in the region).

    Args:
        probs: ``(N, K, *S)``, in [0, 1], without the background's channel.
        overlapping: See :class:`nnunet_semisam.prompts.base.PromptStrategy`.

    Returns:
        ``(N, K, *S)``, float32, in [0, 1].
    """
    probs = probs.float()
    total = probs.sum(dim=1, keepdim=True)
    if overlapping is None:
        overlapping = bool((total > 1 + SUM_TOLERANCE).any())
    if overlapping:
        return probs
    everything = torch.cat([(1 - total).clamp(min=0), probs], dim=1)
    best, second = everything.topk(2, dim=1).values.split(1, dim=1)
    rival = torch.where(probs == best, second, best)
    return probs / (probs + rival)


def find_components(probs: Tensor, overlapping: bool | None = None) -> list[Component]:
    """Return the components to ask about: by image, then by channel, then from large to small.

    Components below ``MIN_VOXELS`` are dropped, and all but the ``MAX_COMPONENTS`` largest of a class in an image.

    Args:
        probs: Foreground probabilities, ``(N, K, *S)`` with two or three axes ``*S``, in [0, 1].
        overlapping: See :class:`nnunet_semisam.prompts.base.PromptStrategy`.

    Raises:
        ValueError: If ``probs`` has another number of axes.
    """
    if probs.ndim not in (4, 5):
        raise ValueError(f"probs must be (N, K, *S) with 2 or 3 spatial axes, got shape {tuple(probs.shape)}.")
    if overlapping is None:
        overlapping = bool((probs.float().sum(dim=1) > 1 + SUM_TOLERANCE).any())
    odds_of = odds(probs, overlapping).detach().cpu().numpy()
    member = odds_of > 0.5
    components = []
    for image, channel in np.argwhere(member.reshape(*member.shape[:2], -1).any(axis=2)):
        components += _components_of(odds_of[image], member[image], int(image), int(channel), overlapping)
    return components


def _components_of(
    odds_of: np.ndarray, member: np.ndarray, image: int, channel: int, overlapping: bool
) -> list[Component]:
    """Return the components of one channel in one image; ``odds_of`` and ``member`` are ``(K, *S)``."""
    axes = member.ndim - 1
    numbered = cc3d.connected_components(member[channel], connectivity=8 if axes == 2 else 26)
    statistics = cc3d.statistics(numbered)
    counts = np.array(statistics["voxel_counts"], dtype=np.int64)
    counts[0] = 0  # the background
    by_size = np.argsort(-counts, kind="stable")[:MAX_COMPONENTS]
    found = []
    for number in by_size[counts[by_size] >= MIN_VOXELS[axes]]:
        bounds = statistics["bounding_boxes"][number][:axes]
        box = np.array([[bound.start, bound.stop] for bound in bounds])
        window = window_of(box, member.shape[1:])
        others = member[(slice(None), *window)].copy()
        others[channel] = False
        found.append(
            Component(
                image=image,
                channel=channel,
                box=box,
                window=window,
                inside=numbered[window] == number,
                member=member[channel][window],
                other=np.zeros_like(others[0]) if overlapping else others.any(axis=0),
                odds=odds_of[channel][window],
            )
        )
    return found


def window_of(box: np.ndarray, image_shape: Sequence[int]) -> tuple[slice, ...]:
    """Return the neighbourhood of a box ``(D, 2)``: a quarter of its extent (at least 2 voxels) on each side."""
    window = []
    for (first, last), size in zip(box, image_shape, strict=True):
        margin = max(2, int(np.ceil(WINDOW_MARGIN * (last - first))))
        window.append(slice(max(0, int(first) - margin), min(size, int(last) + margin)))
    return tuple(window)


def to_prompts(
    components: Sequence[Component], probs: Tensor, labels: Sequence[int], **kinds: np.ndarray
) -> PromptBatch:
    """Return prompts about ``components`` on the device of ``probs``.

    Args:
        components: ``M`` components of ``probs``.
        probs: ``(N, K, *S)``.
        labels: Label of each of the ``K`` channels.
        kinds: ``boxes``, ``points`` with ``point_labels``, ``mask_logits`` as :class:`PromptBatch` describes them.

    Raises:
        ValueError: If there is not one label per channel.
    """
    if len(labels) != probs.shape[1]:
        raise ValueError(f"Each of the {probs.shape[1]} channels of probs needs a label, got {list(labels)}.")
    return PromptBatch(
        image=torch.tensor([c.image for c in components], dtype=torch.int64),
        label=torch.tensor([labels[c.channel] for c in components], dtype=torch.int64),
        **{name: torch.from_numpy(array) for name, array in kinds.items()},
    ).to(probs.device)
