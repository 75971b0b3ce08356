"""Mean Teacher without SAM. nnU-Net writes to <class>__<plans>__<configuration>."""

from nnunet_semisam.settings.config import SemiSAMConfig
from nnunet_semisam.training.trainer import SemiSupervisedTrainer


class nnUNetTrainerMeanTeacher(SemiSupervisedTrainer):
    """Gated Mean Teacher on labeled and unlabeled cases."""

    config = SemiSAMConfig(method="mean_teacher")
