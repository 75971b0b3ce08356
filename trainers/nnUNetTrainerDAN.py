"""Deep Adversarial Network. nnU-Net writes to <class>__<plans>__<configuration>."""

from nnunet_semisam.settings import Settings
from nnunet_semisam.training.trainer import SemiSupervisedTrainer


class nnUNetTrainerDAN(SemiSupervisedTrainer):
    """A discriminator pulls unlabeled segmentations towards labeled ones."""

    # the discriminator sees the images: stronger views than labeled patches have would tell them apart
    settings = Settings.of(method="dan", strong_intensity_scale=1.0)
