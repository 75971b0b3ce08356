"""Cross Pseudo Supervision. nnU-Net writes to <class>__<plans>__<configuration>."""

from nnunet_semisam.settings import Settings
from nnunet_semisam.training.trainer import SemiSupervisedTrainer


class nnUNetTrainerCPS(SemiSupervisedTrainer):
    """Two networks of different initial weights teach each other."""

    settings = Settings.of(method="cps")
