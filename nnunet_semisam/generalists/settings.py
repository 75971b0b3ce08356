"""Settings of a generalist: one block for each SAM model, under the model's name. Standard library only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nnunet_semisam.sam.families import FAMILIES
from nnunet_semisam.settings import Settings, SettingsBlock, setting, settings_block


@dataclass(frozen=True, kw_only=True)
class GeneralistSettings(SettingsBlock):
    """Weights of a SAM, what it sees and how it is prompted."""

    checkpoint: str | None = setting(
        None, "File with the model's weights; null looks in `$nnUNet_sam` (nano: in the package)."
    )
    view: str | None = setting(
        None,
        "How a volume becomes the model's images; null takes `slices` for a 2D model and `volume` for a 3D model.",
        choices=("slices", "volume"),
    )
    axis: int | None = setting(
        None,
        "View `slices`: spatial axis along which slices are taken; null takes that of the largest spacing.",
        choices=(0, 1, 2),
    )
    channel: int = setting(0, "Image channel that the model sees, counted from 0.", low=0)
    prompt: str = setting("box_points_mask", "Name of the prompt strategy.")
    filter: str = setting("all", "Name of the component filter: which components the model is prompted with.")
    refinement: str = setting(
        "jitter", "Name of the prompt refinement: how often prompts are decoded, and what changes."
    )


def _is_used(model: str) -> Callable[[Settings], bool]:
    def used(settings: Settings) -> bool:
        return settings.run.use_sam and model in settings.block("sam").models

    return used


for _name in FAMILIES:
    settings_block(_name, used=_is_used(_name))(GeneralistSettings)
