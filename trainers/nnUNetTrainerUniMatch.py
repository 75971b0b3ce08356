"""UniMatch. nnU-Net writes to <class>__<plans>__<configuration>."""

from nnunet_semisam.settings import Settings
from nnunet_semisam.training.trainer import SemiSupervisedTrainer


class nnUNetTrainerUniMatch(SemiSupervisedTrainer):
    """Two strong views and a view of dropped features follow the weak view."""

    settings = Settings.of(method="unimatch")
