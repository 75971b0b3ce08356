"""SemiSAM+: several generalists, and a regularisation that knows their confidence. See docs/methods.md."""

from nnunet_semisam.settings import Settings
from nnunet_semisam.training.trainer import SemiSupervisedTrainer


class nnUNetTrainerSemiSAMPlus(SemiSupervisedTrainer):
    """Mean Teacher, and generalists prompted with points and with masks whose error counts by their confidence.

    One SAM with two kinds of prompts by default; name more in ``sam: {models: [...]}``. ``method`` may be ``ua_mt`` or
    ``dan``, too.

    Source:
        Zhang et al., Medical Image Analysis 2025, https://arxiv.org/abs/2502.20749.
    """

    settings = Settings.of(
        method="mean_teacher",
        use_sam=True,
        sam={"loss": "confidence_aware", "generalist_cost": 2.0},
        nano={"prompt": "points", "further_prompts": ["mask"]},
    )
