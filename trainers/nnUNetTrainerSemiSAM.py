"""Mean Teacher with SAM pseudo-labels. nnU-Net writes to <class>__<plans>__<configuration>."""

from nnunet_semisam.settings.config import SemiSAMConfig
from nnunet_semisam.training.trainer import SemiSupervisedTrainer


class nnUNetTrainerSemiSAM(SemiSupervisedTrainer):
    """Gated Mean Teacher whose teacher prompts SAM between epochs; SAM's masks supervise the student."""

    config = SemiSAMConfig(method="mean_teacher", use_sam=True)
