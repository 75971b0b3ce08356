"""The honest baseline: stock nnU-Net with our length fields. nnU-Net writes to <class>__<plans>__<configuration>."""

from nnunet_semisam.settings.config import SemiSAMConfig
from nnunet_semisam.training.trainer import SemiSupervisedTrainer


class nnUNetTrainerSupervised(SemiSupervisedTrainer):
    """Stock nnU-Net on the labeled cases of the fold; unlabeled cases are never opened."""

    config = SemiSAMConfig(method="none")
