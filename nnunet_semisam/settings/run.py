"""The flat settings of a run: what every training has, whatever its method."""

from __future__ import annotations

from dataclasses import dataclass

from nnunet_semisam.settings.fields import SettingsBlock, setting

NNUNET = "nnU-Net 2.8.1"


@dataclass(frozen=True, kw_only=True)
class RunSettings(SettingsBlock):
    """Length, seed and data of a run, and which plug-ins it uses."""

    method: str = setting("mean_teacher", "Name of the semi-supervised method; `supervised` is plain nnU-Net.")
    use_sam: bool = setting(False, "Whether generalists (SAM) are prompted between epochs and their masks are learned.")
    num_epochs: int = setting(1000, "Length of the training in epochs.", low=1, source=NNUNET)
    num_iterations_per_epoch: int = setting(250, "Optimiser steps in an epoch.", low=1, source=NNUNET)
    num_val_iterations_per_epoch: int = setting(
        50, "Batches of the online validation at the end of an epoch.", low=1, source=NNUNET
    )
    initial_lr: float = setting(
        1e-2, "Learning rate at the start of nnU-Net's polynomial decay.", above=0, source=NNUNET
    )
    weight_decay: float = setting(3e-5, "Weight decay of nnU-Net's optimiser.", low=0, source=NNUNET)
    initial_weights: str | None = setting(
        None,
        """Checkpoint of nnU-Net, of the same configuration, plans and labels, whose weights the training begins with,
        those of the segmentation layers included: nnU-Net's own `-pretrained_weights` leaves these out. They reach the
        teacher, too. null begins untrained.""",
    )
    save_every: int = setting(50, "Epochs between two writes of `checkpoint_latest.pth`.", low=1, source=NNUNET)
    seed: int | None = setting(
        None,
        """Seed of python, numpy and torch at the start of training; null leaves them as they are. Workers of nnU-Net's
        augmenter seed themselves from the operating system: for bit-identical runs also set `nnUNet_n_proc_DA=0` for
        the training (nnU-Net 2.8.1 cannot plan with it) and train on the CPU.""",
    )
    cpu_bfloat16: bool = setting(
        False,
        """Whether network and SAM compute in bfloat16 on a CPU: faster where it has instructions for it (AVX-512 BF16,
        AMX), many times slower elsewhere.""",
    )
    unlabeled_batch_size: int | None = setting(
        None, "Unlabeled patches in a step; null takes the batch size of the plans.", low=1
    )
    strong_intensity_scale: float = setting(
        3.0,
        """Factor on the probability of every intensity transform of nnU-Net in the strong view, clipped at probability
        1. With 1, a quarter of the strong views would get no intensity transform at all.""",
        low=0,
    )
