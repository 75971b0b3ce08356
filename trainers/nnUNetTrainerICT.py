"""Interpolation Consistency Training. nnU-Net writes to <class>__<plans>__<configuration>."""

from nnunet_semisam.settings import Settings
from nnunet_semisam.training.trainer import SemiSupervisedTrainer


class nnUNetTrainerICT(SemiSupervisedTrainer):
    """Predictions of mixed images follow mixed predictions."""

    settings = Settings.of(method="ict")
