"""SSS: UniMatch V2, feature enhancement, and SAM prompted with chains of components. See docs/methods.md."""

from nnunet_semisam.settings import Settings
from nnunet_semisam.training.trainer import SemiSupervisedTrainer


class nnUNetTrainerSSS(SemiSupervisedTrainer):
    """Two strong views follow the teacher; a SAM prompted with boxes of chains through the slices supervises, too.

    Source:
        Zhu et al., https://arxiv.org/abs/2506.08949; windows, thresholds and formulas are unpublished and ours.
    """

    settings = Settings.of(method="sss", use_sam=True, nano={"filter": "chains", "prompt": "box"})
