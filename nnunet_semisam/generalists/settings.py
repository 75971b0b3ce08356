"""Settings of generalists, and which there are: a block under the name of each.

A SAM is a row in the table of :mod:`nnunet_semisam.sam.families`; any other generalist registers a function that builds
it. Both are named by the setting ``sam: {models: [...]}``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from nnunet_semisam.errors import UserError, printable, shown
from nnunet_semisam.registry import Registry
from nnunet_semisam.sam.adapters.settings import AdaptationSettings  # noqa: F401  registers its block
from nnunet_semisam.sam.families import FAMILIES
from nnunet_semisam.sam.family import Family
from nnunet_semisam.settings import BLOCKS, Settings, SettingsBlock, setting, settings_block

THREE_AXES = "three_axes"


@dataclass(frozen=True, kw_only=True)
class GeneralistSettings(SettingsBlock):
    """Weights of a SAM, what it sees and how it is prompted."""

    checkpoint: str | None = setting(
        None,
        """File with the model's weights; null looks in `$nnUNet_sam` (nano: in the package). The model `auto` is found
        from it.""",
    )
    adapter: str | None = setting(
        None,
        "File of `nnunet-semisam sam adapt` that adapts these weights to labeled cases; null: they are as they are.",
    )
    view: str | None = setting(
        None,
        """How a volume becomes the model's images; null takes `slices` for a 2D model, and for a 3D model `tiles` or
        `volume`, whichever it was trained on. `three_axes` shows a 2D model the slices along each axis; what at least
        two axes say counts, at three times the cost and more, and for voxels of about the same size along all axes.""",
        choices=("slices", "volume", "tiles", THREE_AXES),
        source="several axes: SAM3D, https://arxiv.org/abs/2405.06786; the majority is ours, not measured",
    )
    axis: int | None = setting(
        None,
        """View `slices`: spatial axis along which slices are taken; null takes that of the largest spacing. View
        `three_axes`: that of the slices in pictures.""",
        choices=(0, 1, 2),
    )
    tile_spacing: float = setting(
        1.5,
        "View `tiles`: size of the voxels in mm.",
        above=0,
        source="SAM-Med3D, https://arxiv.org/abs/2310.15161",
    )
    tile_step: float = setting(
        0.5,
        """View `tiles`: distance of two tiles, as a share of a tile's side. The smaller, the more central an object
        lies in one of them, and the more tiles there are to encode.""",
        above=0,
        high=1,
        source="nnU-Net 2.8.1's sliding window; SAM-Med3D centres one tile on each object, which cannot be cached",
    )
    channel: int = setting(0, "Image channel that the model sees, counted from 0.", low=0)
    prompt: str | None = setting(
        None, "Name of the prompt strategy; null takes the one for the model: see its row in docs/sams.md."
    )
    further_prompts: tuple[str, ...] = setting(
        (),
        """Names of further prompt strategies. With each, the model is a generalist of its own, called MODEL_STRATEGY:
        calibrated by itself, and predicting together with the others. Images are encoded once for all.""",
        source="SemiSAM+, https://arxiv.org/abs/2502.20749: point, mask and uncertainty prompts",
    )
    filter: str = setting("all", "Name of the component filter: which components the model is prompted with.")
    refinement: str = setting(
        "jitter", "Name of the prompt refinement: how often prompts are decoded, and what changes."
    )
    augmented_images: int = setting(
        0,
        """Further versions of each image, mirrored and noisy, that the model sees: the mean counts, and voxels on which
        they differ are less reliable. Each costs as much as the image itself.""",
        low=0,
        high=100,
        source="Wang et al. 2019, https://arxiv.org/abs/1807.07356",
    )
    augmentation_noise: float = setting(
        0.1,
        "Standard deviation of the noise of `augmented_images`, as a share of that of the image.",
        low=0,
        source="ours; not measured",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, file in (("checkpoint", self.checkpoint), ("adapter", self.adapter)):
            if file is not None and ("\0" in file or not file.strip()):
                raise UserError(f"The setting {name} must name a file, got {shown(file)}.")

    def strategies(self, row: Family) -> list[str]:
        """Return the names of all prompt strategies for a model, the first one first.

        Args:
            row: Of the model; says which strategy is meant where the settings name none.

        Raises:
            UserError: If one is named twice.
        """
        prompts = [self.prompt or row.prompt, *self.further_prompts]
        if len(set(prompts)) < len(prompts):
            raise UserError(f"The settings prompt and further_prompts name a strategy twice: {', '.join(prompts)}.")
        return prompts


def models_in_use(settings: Settings) -> tuple[str, ...]:
    """Return the models that a run loads: those that it asks, and those that its method trains."""
    name = settings.run.method
    own = settings.block(name) if name in BLOCKS else None  # methods load torch, and may not be there yet
    trained = getattr(own, "trained_sam", None)
    asked = settings.block("sam").models if settings.run.use_sam else ()
    return (*asked, getattr(own, trained)) if trained else tuple(asked)


def _is_used(model: str) -> Callable[[Settings], bool]:
    def used(settings: Settings) -> bool:
        return model in models_in_use(settings)

    return used


for _name in FAMILIES:
    settings_block(_name, used=_is_used(_name))(GeneralistSettings)

Builder = TypeVar("Builder", bound=Callable[..., Any])

# Functions that get a GeneralistContext (see base.py) and return a Generalist of the name that they are filed under.
GENERALISTS: Registry[Any] = Registry("generalist")


# Functions that refuse settings of a generalist before a training begins, without loading anything.
GENERALIST_CHECKS: dict[str, Callable[[Settings], None]] = {}


def register_generalist(
    name: str, settings: type[SettingsBlock], check: Callable[[Settings], None] | None = None
) -> Callable[[Builder], Builder]:
    """Return a decorator that files the function that builds a generalist, and the block of its settings.

    Args:
        name: Name of the generalist, and of its block.
        settings: Class of the block.
        check: Raises :class:`UserError` if the settings of a run cannot be used; called before a training begins.

    Raises:
        ValueError: If the name is taken, by a SAM model for example.
    """

    def add(builder: Builder) -> Builder:
        settings_block(name, used=_is_used(name))(settings)
        if check is not None:
            GENERALIST_CHECKS[name] = check
        return GENERALISTS.register(name)(builder)

    return add


def check_generalist(name: str) -> None:
    """Refuse a name that is neither that of a SAM model nor of another generalist.

    Raises:
        UserError: If it is not; the closest name is offered.
    """
    known = [*FAMILIES, *GENERALISTS.names()]
    if name not in known:
        close = difflib.get_close_matches(printable(name), known, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise UserError(f"Unknown generalist {shown(name)}.{hint} Available: {', '.join(known)}.")
