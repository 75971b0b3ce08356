"""Deep Adversarial Network. nnU-Net writes to <class>__<plans>__<configuration>."""

from nnunet_semisam.settings import Settings
from nnunet_semisam.training.trainer import SemiSupervisedTrainer


class nnUNetTrainerDAN(SemiSupervisedTrainer):
    """A discriminator pulls unlabeled segmentations towards labeled ones."""

    settings = Settings.of(method="dan")
