"""Every hyper-parameter of this package, in one place.

Only the standard library is imported here: console commands show the configuration without loading torch.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nnunet_semisam.errors import UserError

FRACTIONS = (
    "consistency_start",
    "consistency_rampup",
    "consistency_confidence",
    "cutmix_probability",
    "maturity_dice",
    "sam_start",
    "sam_trust_threshold",
    "oversample_pseudo_foreground",
)
NOT_NEGATIVE = (
    "consistency_weight",
    "strong_intensity_scale",
    "sam_weight",
    "sam_decay",
    "sam_channel",
    "sam_cache_gb",
    "sam_preview_cases",
)
AT_LEAST_ONE = (
    "num_epochs",
    "num_iterations_per_epoch",
    "num_val_iterations_per_epoch",
    "save_every",
    "unlabeled_batch_size",
    "sam_refresh_epochs",
    "sam_cases_per_refresh",
    "sam_batch_size",
)
CHOICES = {"deploy": ("teacher", "student"), "maturity_start": ("all", "any")}


@dataclass(frozen=True, kw_only=True)
class SemiSAMConfig:
    """Settings of one trainer class. A trainer is a name for one of these; a yaml file may override fields.

    Fractions are fractions of the training in [0, 1], so that a run of 20 epochs ramps as one of 1000 does.

    Attributes:
        method: Name of the semi-supervised method (``METHODS.names()``), or ``none`` for plain nnU-Net.

        num_epochs: Length of the training in epochs.
        num_iterations_per_epoch: Optimiser steps in an epoch.
        num_val_iterations_per_epoch: Batches of the online validation at the end of an epoch.
        initial_lr: Learning rate at the start of nnU-Net's polynomial decay.
        save_every: Epochs between two writes of ``checkpoint_latest.pth``.
        seed: Seed of python, numpy and torch at the start of training. ``None`` leaves them as they are. Workers of
            nnU-Net's augmenter seed themselves from the operating system: for bit-identical runs also set
            ``nnUNet_n_proc_DA=0`` and train on the CPU.
        cpu_bfloat16: Whether network and SAM compute in bfloat16 on a CPU, which pays where it has instructions for it.

        deploy: Whose weights are validated, written as ``network_weights`` and used by ``nnUNetv2_predict``.
        unlabeled_batch_size: Unlabeled patches in a step; ``None`` takes the batch size of the plans.
        strong_intensity_scale: Factor on the probability of every intensity transform of nnU-Net in the strong view,
            clipped at probability 1. With 1, a quarter of the strong views would get no intensity transform at all.
        oversample_pseudo_foreground: Share of unlabeled patches that are centred on a voxel of a pseudo-label's
            foreground, where a pseudo-label exists.

        ema_decay: Share of the old teacher kept per step, in [0, 1); the first steps use ``1 - 1 / (step + 1)``.
        consistency_loss: Name of the loss between student and teacher (``CONSISTENCY_LOSSES.names()``).
        consistency_weight: Final weight of the consistency term; nnU-Net's supervised loss has weight 1.
        consistency_start: Fraction of the training before which the consistency term is 0.
        consistency_rampup: Length of the ramp from 0 to ``consistency_weight``, as a fraction of the training.
        consistency_confidence: Teacher probability below which a voxel's hard pseudo-label is not used.
        cutmix_probability: Probability that the strong views of a batch are mixed by CutMix.
        maturity_dice: Dice that the teacher must reach on labeled training patches before a class may speak in an
            unlabeled term. Its trust rises linearly from 0
            here to 1 at ``maturity_dice + 0.1``; from 1/2 on it is named, before that it is part of the rest.
        maturity_start: Whether the consistency term waits until ``all`` classes have been named once, or starts with
            ``any``. After the start a class that is lost again goes back to the rest; the others go on.
        area_prior_factor: A class may claim at most this many times the largest share of voxels, and must claim at
            least the smallest share divided by it, that it has on labeled patches; beyond, its trust falls.

        use_sam: Whether the SAM stage runs.
        sam_model: Name of the SAM backend's model: ``nano`` (in this package), ``vit_b``, ``vit_l`` or ``vit_h``.
        sam_checkpoint: Weights of ``sam_model``; ``None`` looks in ``$nnUNet_sam`` (nano: in the package).
        sam_prompt: Name of the prompt strategy (``PROMPTS.names()``).
        sam_weight: Weight of the SAM term when it starts.
        sam_start: Fraction of the training before which SAM is not asked.
        sam_decay: Exponent ``k`` of the decay ``exp(-k * t**2)`` of the SAM term, ``t`` the time since ``sam_start``
            as a fraction of what is left; 0 keeps it constant. SemiSAM (https://arxiv.org/abs/2312.06316) lowers its
            term from 0.1 to 0.1 * exp(-5): set 5 for that.
        sam_refresh_epochs: Epochs between two rounds of the stage; ``None`` is a twentieth of the training.
        sam_cases_per_refresh: Unlabeled cases per round, rolling over the pool; ``None`` takes as many as cost about
            a twentieth of the training between two rounds. The first round takes more where it can: all, or as many
            as cost about a twentieth of the whole training.
        sam_batch_size: Slices that are encoded, and quarters of prompts that are decoded, at once.
        sam_axis: Spatial axis along which a 2D SAM sees slices; ``None`` takes the axis of the largest spacing.
        sam_channel: Image channel that SAM sees.
        sam_trust_threshold: Trust below which a pseudo-label's voxel is ignored in the loss.
        sam_cache_gb: Most disk space for cached image embeddings, in GB; the least recently used go first.
        sam_preview_cases: Cases of each round of which a preview picture is written; 0 writes none.
    """

    method: str = "mean_teacher"

    num_epochs: int = 1000  # nnU-Net 2.8.1
    num_iterations_per_epoch: int = 250  # nnU-Net 2.8.1
    num_val_iterations_per_epoch: int = 50  # nnU-Net 2.8.1
    initial_lr: float = 1e-2  # nnU-Net 2.8.1
    save_every: int = 50  # nnU-Net 2.8.1
    seed: int | None = None
    cpu_bfloat16: bool = False

    deploy: str = "teacher"
    unlabeled_batch_size: int | None = None
    strong_intensity_scale: float = 3.0
    oversample_pseudo_foreground: float = 0.33  # nnU-Net's share of foreground patches

    ema_decay: float = 0.99  # Tarvainen & Valpola 2017, section 3.1; SSL4MIS and SemiSAM use the same
    consistency_loss: str = "dice_ce"
    consistency_weight: float = 1.0
    consistency_start: float = 0.1  # nnFilterMatch starts self-training at a tenth
    consistency_rampup: float = 0.2
    consistency_confidence: float = 0.0
    cutmix_probability: float = 0.5  # UniMatch, https://arxiv.org/abs/2208.09910
    maturity_dice: float = 0.8  # docs/results.md: at 0.6 a teacher of three ACDC patients speaks too early
    maturity_start: str = "all"  # docs/results.md: with "any", 1,400 steps of one named class cost more than they gave
    area_prior_factor: float = 2.0

    use_sam: bool = False
    sam_model: str = "nano"
    sam_checkpoint: str | None = None
    sam_prompt: str = "box_points_mask"
    sam_weight: float = 0.5
    sam_start: float = 0.4
    sam_decay: float = 0.0  # the calibration, repeated, takes the SAM back where the network has outgrown it
    sam_refresh_epochs: int | None = None
    sam_cases_per_refresh: int | None = None
    sam_batch_size: int = 16
    sam_axis: int | None = None
    sam_channel: int = 0
    sam_trust_threshold: float = 0.5
    sam_cache_gb: float = 20.0
    sam_preview_cases: int = 2

    def __post_init__(self) -> None:
        self._check_types()
        for name in FRACTIONS:
            self._check(name, lambda v: 0.0 <= v <= 1.0, "in [0, 1]")
        for name in NOT_NEGATIVE:
            self._check(name, lambda v: v >= 0 and math.isfinite(v), "a finite number >= 0")
        for name in AT_LEAST_ONE:
            self._check(name, lambda v: v is None or v >= 1, "at least 1")
        for name, allowed in CHOICES.items():
            self._check(name, lambda v, allowed=allowed: v in allowed, " or ".join(allowed))
        self._check("initial_lr", lambda v: v > 0 and math.isfinite(v), "a finite number greater than 0")
        self._check("ema_decay", lambda v: 0.0 <= v < 1.0, "in [0, 1)")
        self._check("area_prior_factor", lambda v: v >= 1.0 and math.isfinite(v), "a finite number >= 1")
        self._check("sam_axis", lambda v: v is None or v in (0, 1, 2), "0, 1 or 2")

    def _check(self, name: str, allowed: Any, what: str) -> None:
        if not allowed(getattr(self, name)):
            raise UserError(f"The setting {name} must be {what}, got {getattr(self, name)!r}.")

    def _check_types(self) -> None:
        for field in dataclasses.fields(self):
            value, wanted = getattr(self, field.name), field.type.removesuffix(" | None")
            if value is None and field.type.endswith("| None"):
                continue
            if wanted == "float" and isinstance(value, int) and not isinstance(value, bool):
                continue  # yaml writes 1.0 as 1
            if type(value).__name__ != wanted:
                hint = (
                    " Write a number with a point, as in 1.0e-3: yaml takes 1e-3 for text." if wanted == "float" else ""
                )
                raise UserError(
                    f"The setting {field.name} must be of type {field.type}, got {value!r} ({type(value).__name__})."
                    + hint
                )

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as plain python values, ready for json, yaml and checkpoints."""
        return dataclasses.asdict(self)

    def replace(self, overrides: Mapping[str, Any], source: str) -> SemiSAMConfig:
        """Return a copy with some fields changed.

        Args:
            overrides: Field names and their new values.
            source: Where the values come from, for the error message.

        Raises:
            UserError: If a field does not exist (the closest name is offered) or a value is not allowed.
        """
        names = [field.name for field in dataclasses.fields(self)]
        for name in overrides:
            if name not in names:
                close = difflib.get_close_matches(str(name), names, n=1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise UserError(f"Unknown setting {name!r} in {source}.{hint} Known settings: {', '.join(names)}.")
        return dataclasses.replace(self, **overrides)

    def differences(self, other: SemiSAMConfig) -> dict[str, tuple[Any, Any]]:
        """Return the fields whose values differ, as ``{name: (mine, theirs)}``."""
        mine, theirs = self.to_dict(), other.to_dict()
        return {name: (mine[name], theirs[name]) for name in mine if mine[name] != theirs[name]}
