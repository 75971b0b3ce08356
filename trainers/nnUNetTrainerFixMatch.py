"""FixMatch. nnU-Net writes to <class>__<plans>__<configuration>."""

from nnunet_semisam.settings import Settings
from nnunet_semisam.training.trainer import SemiSupervisedTrainer


class nnUNetTrainerFixMatch(SemiSupervisedTrainer):
    """The student's own confident labels on the weak view teach it on the strong view."""

    settings = Settings.of(method="fixmatch")
