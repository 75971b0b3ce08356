"""Bidirectional Copy-Paste. nnU-Net writes to <class>__<plans>__<configuration>."""

from nnunet_semisam.settings import Settings
from nnunet_semisam.training.trainer import SemiSupervisedTrainer


class nnUNetTrainerBCP(SemiSupervisedTrainer):
    """Boxes of labeled images in unlabeled ones and the other way round."""

    settings = Settings.of(method="bcp")
