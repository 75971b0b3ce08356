"""Uncertainty-rectified pyramid consistency. nnU-Net writes to <class>__<plans>__<configuration>."""

from nnunet_semisam.settings import Settings
from nnunet_semisam.training.trainer import SemiSupervisedTrainer


class nnUNetTrainerURPC(SemiSupervisedTrainer):
    """The levels of nnU-Net's decoder agree on unlabeled patches."""

    settings = Settings.of(method="urpc")
