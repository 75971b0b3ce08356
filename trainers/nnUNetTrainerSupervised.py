"""The honest baseline: stock nnU-Net with our length settings. nnU-Net writes to <class>__<plans>__<configuration>."""

from nnunet_semisam.settings import Settings
from nnunet_semisam.training.trainer import SemiSupervisedTrainer


class nnUNetTrainerSupervised(SemiSupervisedTrainer):
    """Stock nnU-Net on the labeled cases of the fold; unlabeled cases are never opened."""

    settings = Settings.of(method="supervised")
