"""SemiSAM as it was published, with its own schedule, losses and prompts. docs/how_it_works.md says what differs."""

from nnunet_semisam.settings import Settings
from nnunet_semisam.training.trainer import SemiSupervisedTrainer


class nnUNetTrainerSemiSAM_paper(SemiSupervisedTrainer):
    """Mean Teacher and a SAM prompted by ten points, both with squared errors, from the first step; no gate.

    Source:
        Zhang et al., BIBM 2024, https://arxiv.org/abs/2312.06316; numbers are those of its published code.
    """

    settings = Settings.of(
        method="mean_teacher",
        use_sam=True,
        mean_teacher={
            "loss": "mse",
            "weight": 0.1,
            "start": 0.0,
            "rampup": 1.0,
            "ema_decay": 0.99,
            "ramp_from": "training",
            "cutmix_probability": 0.0,
            "labeled_mix_probability": 0.0,
            "second_opinion": False,
        },
        gate={"dice": 0.0, "area_factor": 1e9, "agreement_memory": 0.0},
        sam={"loss": "mse", "weight": 0.05, "start": 0.0, "decay": 5.0, "confidence_threshold": 0.0},
        nano={"prompt": "points", "refinement": "none"},
        prompts={"positive_points": 10, "negative_points": 0},
    )
