"""Mean Teacher with SAM pseudo-labels. nnU-Net writes to <class>__<plans>__<configuration>."""

from nnunet_semisam.settings import Settings
from nnunet_semisam.training.trainer import SemiSupervisedTrainer


class nnUNetTrainerSemiSAM(SemiSupervisedTrainer):
    """Gated Mean Teacher whose teacher prompts SAM between epochs; SAM's masks supervise the student."""

    settings = Settings.of(method="mean_teacher", use_sam=True)
