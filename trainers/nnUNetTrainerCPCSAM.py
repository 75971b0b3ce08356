"""CPC-SAM: two decoders of a SAM prompt each other. nnU-Net writes to <class>__<plans>__<configuration>."""

from nnunet_semisam.settings import Settings
from nnunet_semisam.training.trainer import SemiSupervisedTrainer


class nnUNetTrainerCPCSAM(SemiSupervisedTrainer):
    """A SAM with two decoders that prompt each other is trained beside nnU-Net's network, and is its teacher."""

    settings = Settings.of(method="cpc_sam")
