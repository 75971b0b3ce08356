"""Uncertainty-aware Mean Teacher. nnU-Net writes to <class>__<plans>__<configuration>."""

from nnunet_semisam.settings import Settings
from nnunet_semisam.training.trainer import SemiSupervisedTrainer


class nnUNetTrainerUAMT(SemiSupervisedTrainer):
    """Mean Teacher in voxels where noisy passes of the teacher are certain."""

    settings = Settings.of(method="ua_mt")
