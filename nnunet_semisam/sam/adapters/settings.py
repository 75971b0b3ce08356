"""Settings of the adaptation of a SAM to labeled cases. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass

from nnunet_semisam.settings import SettingsBlock, setting, settings_block

ADAPTERS, ALL, DECODER = "adapters", "all", "decoder"
TRAINED = (ADAPTERS, ALL, DECODER)
SAMED = "SAMed, https://arxiv.org/abs/2304.13785; SFR, https://arxiv.org/abs/2403.11229"
SYNFOC = "SynFoC, https://arxiv.org/abs/2503.16997"


@settings_block("adaptation", used=lambda settings: False)  # a training only reads the result
@dataclass(frozen=True, kw_only=True)
class AdaptationSettings(SettingsBlock):
    """How `nnunet-semisam sam adapt` trains a SAM; trainings read the result only, with `adapter` of the model."""

    train: str | None = setting(
        None,
        """What learns: `adapters` (low-rank adapters on the encoder, and the mask decoder), `all` (the whole model),
        `decoder` (the mask decoder); null takes `adapters` where it is known where they go, else `all`.""",
        choices=TRAINED,
    )
    rank: int = setting(4, "Rank of the low-rank adapters.", low=1, high=1024, source=SAMED)
    alpha: float = setting(
        4.0, "Scale of the low-rank adapters: their product is multiplied by `alpha / rank`.", above=0, source=SAMED
    )
    steps: int = setting(200, "Largest number of optimiser steps.", low=1, source="docs/sam_adaptation.md")
    learning_rate: float = setting(
        3e-4,
        "Learning rate of AdamW after the warm-up.",
        above=0,
        source="docs/sam_adaptation.md, for `all`; adapters: SynFoC takes 1e-4, SFR 1e-3",
    )
    weight_decay: float = setting(0.1, "Weight decay of AdamW, on matrices and kernels.", low=0, source=SYNFOC)
    warmup: int = setting(20, "Steps in which the learning rate rises to its full value.", low=0)
    decay: float = setting(
        0.9, "Exponent of the polynomial decay of the learning rate over all steps; 0: none.", low=0, source=SAMED
    )
    gradient_norm: float = setting(1.0, "Gradients of a larger norm are shortened to it.", above=0)
    images: int = setting(2, "Slices in a step, all of one case.", low=1, source=SAMED)
    prompts: int = setting(3, "Objects of each image that are prompted for in a step.", low=1)
    component_share: float = setting(
        0.5, "Share of objects that are one component of a class instead of all of it.", low=0, high=1
    )
    smallest: int = setting(4, "Voxels below which an object is not prompted for.", low=1)
    box_jitter: float = setting(
        0.1, "Largest standard deviation of the shift of a box's side, as a share of the box.", low=0, high=1
    )
    foreground_points: int = setting(3, "Largest number of points inside an object.", low=1)
    background_points: int = setting(2, "Largest number of points beside an object.", low=0)
    mask_errors: float = setting(
        1.0,
        "Largest severity of the errors of mask prompts; 0 is nearly right, 1 a half-trained network.",
        low=0,
        high=1,
    )
    mirror: float = setting(0.5, "Probability to mirror the images of a step, along each axis.", low=0, high=1)
    gamma: float = setting(
        0.5,
        "Largest exponent, as its natural logarithm, of the random gamma on intensities.",
        low=0,
        high=5,
        source="SFR trains with random intensity curves",
    )
    quality_weight: float = setting(
        0.1, "Weight of the squared error of the estimated IoU, beside the mean of Dice and cross-entropy loss.", low=0
    )
    holdout: float = setting(
        0.2,
        "Share of the labeled patients (at least one; of a single one: share of the slices) that judges the steps.",
        above=0,
        below=1,
    )
    most_holdout_images: int = setting(48, "Images of the hold-out that are looked at, evenly spaced.", low=1)
    validate_every: int = setting(25, "Steps between looks at the hold-out; a killed run goes on from there.", low=1)
    patience: int = setting(6, "Looks at the hold-out without improvement after which training stops.", low=1)
    seed: int = setting(0, "Seed of hold-out, examples and prompts.", low=0, high=2**31 - 1)
