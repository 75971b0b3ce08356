"""What a prompt strategy, a component filter and a prompt refinement must do, and their registries.

Components (see :mod:`nnunet_semisam.prompts.components`) are found once per case. A filter chooses among them, a
strategy turns each into one prompt, a refinement changes the prompts and decodes again.

Shapes in this file: ``M`` components or prompts, ``*S`` spatial axes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from nnunet_semisam.prompts.components import Component
from nnunet_semisam.registry import Registry
from nnunet_semisam.sam.base import MaskPrediction, PromptBatch
from nnunet_semisam.settings import SettingsBlock, setting, settings_block


@settings_block("prompts", used=lambda settings: settings.run.use_sam)
@dataclass(frozen=True, kw_only=True)
class PromptSettings(SettingsBlock):
    """How components become boxes, points and masks, and how far a refinement moves them."""

    box_margin: float = setting(
        0.05,
        "Margin of a box on each side, as a share of its extent.",
        low=0,
        source="SAM itself was trained with boxes jittered by up to a tenth",
    )
    box_margin_voxels: int = setting(1, "Smallest margin of a box in voxels.", low=0)
    positive_points: int = setting(
        3, "Points inside a component.", low=1, high=1000, source="MuDuo: 46.9 against 45.2 Dice for 3 points against 1"
    )
    negative_points: int = setting(3, "Points outside a component.", low=0, high=1000)
    outside_depth: float = setting(
        5.0,
        """Best distance of a point outside from the component, in voxels: nearer the side is unclear, further it says
        less.""",
        above=0,
    )
    logit_limit: float = setting(
        8.0,
        "Largest absolute logit of a mask prompt: probability 0.9997; infinity must not reach a SAM.",
        above=0,
    )
    box_shift: float = setting(
        0.05,
        "Refinement `jitter`: share of the extent by which each side of a box moves.",
        low=0,
        source="UR-SAM, https://arxiv.org/abs/2311.10529, jitters boxes at random",
    )
    box_shift_voxels: float = setting(1.0, "Refinement `jitter`: smallest shift of a side in voxels.", low=0)
    logit_shift: float = setting(
        1.0,
        "Refinement `jitter`: added to, and taken from, the logits of a mask: probability 0.5 becomes 0.73 or 0.27.",
        low=0,
    )
    chain_window: int = setting(
        3,
        """Filter `chains`: slices that are looked at together: 2 links neighbours, 3 bridges one slice without the
        component. Boxes are smoothed over as many.""",
        low=2,
        high=100,
        source="ours; SSS, https://arxiv.org/abs/2506.08949, has a sliding window of unpublished length",
    )
    chain_length: int = setting(
        3, "Filter `chains`: smallest number of slices of a chain.", low=1, source="ours; not published in SSS"
    )
    chain_overlap: float = setting(
        0.3,
        "Filter `chains`: smallest share of the smaller component that the other one covers.",
        low=0,
        high=1,
        source="ours; not published in SSS",
    )
    chain_shift: float = setting(
        0.5,
        "Filter `chains`: largest distance of two centres, in diameters of the larger component.",
        low=0,
        source="ours; not published in SSS",
    )


class PromptStrategy(ABC):
    """Turns components into prompts: a pure function, same components, same prompts.

    Args:
        settings: The block ``prompts``.

    Attributes:
        kinds: Which of ``box``, ``points`` and ``mask`` it uses; checked against the SAM before anything runs.

    Example:
        A strategy that prompts with the middle of each box:

        >>> import numpy as np, torch
        >>> from nnunet_semisam.prompts.components import find_components, to_prompts
        >>> class Middle(PromptStrategy):
        ...     kinds = frozenset({"points"})
        ...     def __call__(self, components, image_shape, labels):
        ...         middles = np.array([component.box.mean(axis=1) for component in components], dtype=np.float32)
        ...         points = middles.reshape(len(components), 1, len(image_shape))
        ...         point_labels = np.ones(points.shape[:2], dtype=np.int64)
        ...         return to_prompts(components, labels, points=points, point_labels=point_labels)
        >>> probs = torch.zeros(1, 1, 20, 20)
        >>> probs[..., 4:8, 10:16] = 0.9
        >>> Middle()(find_components(probs, overlapping=False), (20, 20), labels=[7]).points.tolist()
        [[[6.0, 13.0]]]
    """

    kinds: ClassVar[frozenset[str]]

    def __init__(self, settings: PromptSettings | None = None) -> None:
        self.settings = settings or PromptSettings()

    @abstractmethod
    def __call__(
        self, components: Sequence[Component], image_shape: Sequence[int], labels: Sequence[int]
    ) -> PromptBatch:
        """Return one prompt for each component, in their order.

        Args:
            components: ``M`` components; may be empty.
            image_shape: Size of the images along each axis, ``*S``.
            labels: The nnU-Net label (or region index) of each foreground channel.

        Returns:
            ``M`` prompts on the CPU. The kinds in ``kinds`` are never ``None``, not even without components.
        """


class ComponentFilter(ABC):
    """Chooses which components a generalist is prompted with; may look at all components of a case.

    Args:
        settings: The block ``prompts``.

    Example:
        >>> class OneSlice(ComponentFilter):
        ...     def __call__(self, components):
        ...         return [component for component in components if component.image == 3]
        >>> OneSlice()([])
        []
    """

    def __init__(self, settings: PromptSettings | None = None) -> None:
        self.settings = settings or PromptSettings()

    @abstractmethod
    def __call__(self, components: Sequence[Component]) -> Sequence[Component]:
        """Return the chosen components, in their order."""


class PromptRefinement(ABC):
    """Decodes the same prompts several times: changed on purpose, or improved by the masks before.

    Args:
        settings: The block ``prompts``.

    Attributes:
        steps: How often prompts are decoded.
        averages: Whether the mean over all steps is the mask, and their agreement its reliability; else the mask of the
            last step counts alone.
        kinds: Kinds of prompts that it adds to those of the strategy; checked against the SAM before anything runs.

    Example:
        A second pass, prompted with the mask of the first as well:

        >>> import dataclasses, torch
        >>> class SecondPass(PromptRefinement):
        ...     steps, averages, kinds = 2, False, frozenset({"mask"})
        ...     def __call__(self, prompts, image_shape, step, previous):
        ...         if previous is None:
        ...             return prompts
        ...         return dataclasses.replace(prompts, mask_logits=previous.logits.cpu())
        >>> first = torch.zeros(1, dtype=torch.int64)
        >>> prompts = PromptBatch(first, first, boxes=torch.tensor([[[0.0, 4.0], [0.0, 4.0]]]))
        >>> seen = MaskPrediction(torch.ones(1, 4, 4), torch.ones(1))
        >>> sorted(SecondPass()(prompts, (4, 4), 1, seen).kinds)
        ['box', 'mask']
    """

    steps: ClassVar[int]
    averages: ClassVar[bool] = True
    kinds: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, settings: PromptSettings | None = None) -> None:
        self.settings = settings or PromptSettings()

    @abstractmethod
    def __call__(
        self, prompts: PromptBatch, image_shape: Sequence[int], step: int, previous: MaskPrediction | None
    ) -> PromptBatch:
        """Return the prompts of a step.

        Args:
            prompts: ``M`` prompts as the strategy made them.
            image_shape: Size of the images along each axis, ``*S``.
            step: Number of the step, from 0.
            previous: What the SAM predicted in the step before; ``None`` in the first.

        Returns:
            As many prompts, in the same order.
        """


PROMPTS: Registry[PromptStrategy] = Registry("prompt strategy")
FILTERS: Registry[ComponentFilter] = Registry("component filter")
REFINEMENTS: Registry[PromptRefinement] = Registry("prompt refinement")


@FILTERS.register("all")
class AllComponents(ComponentFilter):
    """Every component is prompted."""

    def __call__(self, components: Sequence[Component]) -> Sequence[Component]:
        """Return ``components``."""
        return components
