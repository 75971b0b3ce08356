"""The SAM stage's parts on a real heart, asked by an opinion that is wrong in a known way."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch

from nnunet_semisam.generalists.embedding_cache import EmbeddingCache
from nnunet_semisam.generalists.sam_generalist import SAMWitness
from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels.calibration import degrade
from nnunet_semisam.pseudo_labels.fusion import SAMWeights, fuse
from nnunet_semisam.sam import build_backend
from nnunet_semisam.settings.config import SemiSAMConfig

SPACING = (10.0, 1.5, 1.5)


def opinion_of(truth: np.ndarray) -> np.ndarray:
    """Return blurred one-hot probabilities ``(K, *S)``, so that a warp moves soft borders as a network has them."""
    one_hot = torch.stack([torch.from_numpy(truth == k) for k in range(4)]).float()
    smooth = torch.nn.functional.avg_pool2d(one_hot, 3, 1, 1, count_include_pad=False).numpy()
    return smooth / smooth.sum(0)


@pytest.mark.realdata
@pytest.mark.skipif("NNUNET_SEMISAM_TEST_DATA" not in os.environ, reason="NNUNET_SEMISAM_TEST_DATA is not set")
def test_on_a_real_heart_trust_tells_right_from_wrong_and_fusion_loses_nothing(tmp_path: Path) -> None:
    folder = Path(os.environ["NNUNET_SEMISAM_TEST_DATA"]) / "ACDC" / "database" / "training" / "patient082"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    truth_file = min(folder.glob("*_gt.nii.gz"))
    image = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(truth_file).replace("_gt", ""))).astype(np.float32)
    truth = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(truth_file))).astype(np.int16)
    layout = Labels((1, 2, 3), has_regions=False, regions=(), to_label_map=lambda probs: probs.argmax(0))
    network = degrade(opinion_of(truth), truth, layout, 0.7, SPACING, "patient082")
    config = SemiSAMConfig(use_sam=True)
    backend = build_backend(config, torch.device("cpu"))
    cache = EmbeddingCache(tmp_path, "2d", backend.fingerprint, 1.0)
    answer = SAMWitness(config, backend, cache, layout, 0).ask("patient082", image[None], network)
    fused = fuse(network, answer.opinion, layout, SAMWeights.unmeasured(3))

    foreground, right = fused.label > 0, fused.label == truth
    firm = foreground & (fused.trust >= 0.9)
    doubtful = foreground & (fused.trust >= 0.4) & (fused.trust < 0.7)
    assert firm.sum() > 1000
    assert doubtful.sum() > 100
    assert right[firm].mean() > right[doubtful].mean() + 0.1
    assert dice(fused.label, truth) > dice(layout.label_map(layout.foreground(network)), truth)


def dice(label: np.ndarray, truth: np.ndarray) -> float:
    return float(
        np.mean(
            [2 * ((label == k) & (truth == k)).sum() / ((label == k).sum() + (truth == k).sum()) for k in (1, 2, 3)]
        )
    )
