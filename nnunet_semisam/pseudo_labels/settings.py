"""Settings of the rounds of pseudo-labels: when, how many, and which generalists. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass

from nnunet_semisam.errors import UserError
from nnunet_semisam.generalists.settings import check_generalist  # registers a block for each model, too
from nnunet_semisam.settings import SettingsBlock, setting, settings_block

LOSSES = ("dice_ce", "cross_entropy", "mse", "confidence_aware")  # of methods/parts/losses.py


@settings_block("sam", used=lambda settings: settings.run.use_sam)
@dataclass(frozen=True, kw_only=True)
class SAMSettings(SettingsBlock):
    """Rounds of pseudo-labels: which generalists, when, how many cases, and their term in the loss.

    Fractions are fractions of the training in [0, 1], so that a run of 20 epochs behaves as one of 1000 does.
    """

    models: tuple[str, ...] = setting(
        ("nano",),
        """Names of the generalists, SAM models for the most part; each has a block of its own. Several predict
        together, each class weighted by what the calibration measured.""",
    )
    weight: float = setting(0.5, "Weight of the pseudo-label term when it starts.", low=0)
    loss: str = setting("dice_ce", "Name of the loss on pseudo-labels.", choices=LOSSES)
    start: float = setting(
        0.0,
        """Fraction of the training before which there are no rounds. They wait in any case until the network knows its
        classes to some degree (block `gate`).""",
        low=0,
        high=1,
    )
    decay: float = setting(
        0.0,
        """Exponent `k` of the decay `exp(-k * t**2)` of the term's weight, `t` the time since `start` as a fraction of
        what is left; 0 keeps it constant: the calibration, repeated, takes a generalist back where the network has
        outgrown it.""",
        low=0,
        source="SemiSAM, https://arxiv.org/abs/2312.06316, lowers its term from 0.1 to 0.1 * exp(-5): 5 does that",
    )
    adapters_of_other_patients: bool = setting(
        False,
        """Take adapters of another data set for adapters to other patients, where names of cases are alike. Else a
        training refuses one that learned from a case with the name of one that its fold validates on or hides.""",
    )
    confidence_threshold: float = setting(
        0.5, "Confidence below which a pseudo-label's voxel is ignored in the loss.", low=0, high=1
    )
    oversample_foreground: float = setting(
        0.33,
        "Share of unlabeled patches that are centred on a confident foreground voxel of a pseudo-label.",
        low=0,
        high=1,
        source="nnU-Net 2.8.1's share of labeled patches",
    )
    max_locations: int = setting(
        2000, "Confident voxels of each label and case that patches may be centred on, drawn at random.", low=1
    )
    refresh_epochs: int | None = setting(
        None, "Epochs between two rounds; null is the training divided by `rounds_per_training`.", low=1
    )
    rounds_per_training: int = setting(20, "Rounds in a training whose `refresh_epochs` is null.", low=1)
    cases_per_refresh: int | None = setting(
        None,
        """Unlabeled cases per round, rolling over the pool; null takes as many as cost about `compute_share` of the
        training between two rounds. The first round takes more where it can: all, or as many as cost about that share
        of the whole training.""",
        low=1,
    )
    compute_share: float = setting(
        0.05,
        """What a round computes, as a share of what the training computes: the first round of the whole training, each
        further one of the time from round to round.""",
        above=0,
    )
    forwards_per_patch: int = setting(
        8,
        """What a training step costs per patch, in forward passes, for `compute_share`: labeled and unlabeled student,
        forward and backward (3 each), and two teacher forwards.""",
        low=1,
    )
    mirror: bool = setting(
        True,
        """Whether cases of a round are predicted mirrored, too: the label is of the mean, and how alike both are is a
        second opinion on it. Without it nobody vouches for classes that no generalist helps in.""",
        source="docs/results.md, Reliability of confidence",
    )
    generalist_cost: float = setting(
        1.0,
        "What the generalists' masks of a case cost, in predictions of the network, for `compute_share`.",
        low=0,
        source="docs/results.md: nano took about as long as one prediction by a narrow network",
    )
    age_decay: float = setting(
        0.97,
        "Factor on the weight of a pseudo-label for each round since it was made, all its voxels alike.",
        above=0,
        high=1,
    )
    tile_step: float = setting(
        0.5,
        "Step of the sliding window that predicts whole cases, as a share of the patch.",
        above=0,
        high=1,
        source="nnU-Net 2.8.1",
    )
    calibrate_every: int = setting(
        5, "Rounds between two calibrations: the network changes, and with it where a generalist helps.", low=1
    )
    calibration_cases: int = setting(6, "Labeled cases of a calibration, rolling, so that all have their turn.", low=1)
    thick_slice: float = setting(
        8.0,
        """Distance of the slices of a 2D configuration, in units of its larger pixel side, where the true distance is
        not known.""",
        above=0,
    )
    batch_size: int = setting(
        16, "Images that a SAM encodes, and quarters of prompts that it decodes, at once, at most.", low=1
    )
    cache_gb: float = setting(
        20.0, "Largest disk space for cached image embeddings of a data set, in GB; 0 caches nothing.", low=0
    )
    preview_cases: int = setting(2, "Cases of each round of which a preview picture is written; 0 writes none.", low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.models or len(set(self.models)) < len(self.models):
            raise UserError(
                f"The setting models must name at least one generalist, each once, got {list(self.models)}. To train "
                "without generalists, set use_sam: false."
            )
        for name in self.models:
            check_generalist(name)
