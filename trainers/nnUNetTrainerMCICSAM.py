"""Interpolation consistency weighed by uncertainty, and SAM. nnU-Net writes to <class>__<plans>__<configuration>."""

from nnunet_semisam.settings import Settings
from nnunet_semisam.training.trainer import SemiSupervisedTrainer


class nnUNetTrainerMCICSAM(SemiSupervisedTrainer):
    """Predictions of mixed images follow mixed predictions where they are certain; SAM supervises, too."""

    settings = Settings.of(method="mcicsam", use_sam=True)
