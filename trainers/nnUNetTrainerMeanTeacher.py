"""Mean Teacher without SAM. nnU-Net writes to <class>__<plans>__<configuration>."""

from nnunet_semisam.settings import Settings
from nnunet_semisam.training.trainer import SemiSupervisedTrainer


class nnUNetTrainerMeanTeacher(SemiSupervisedTrainer):
    """Gated Mean Teacher on labeled and unlabeled cases."""

    settings = Settings.of(method="mean_teacher")
