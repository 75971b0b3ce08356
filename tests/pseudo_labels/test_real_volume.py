"""Generalist and fusion on a real heart, prompted by a prediction that is wrong in a known way."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch

from nnunet_semisam.generalists.base import CaseInput
from nnunet_semisam.generalists.build import build_generalist
from nnunet_semisam.generalists.embedding_cache import EmbeddingCache
from nnunet_semisam.generalists.weights import GeneralistWeights
from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels.fusion import CasePriors, FusionSettings, fuse
from nnunet_semisam.pseudo_labels.generalisation_error import simulate_generalisation_error
from nnunet_semisam.pseudo_labels.settings import SAMSettings  # noqa: F401  registers the blocks
from nnunet_semisam.sam import BackendOptions, build_backend
from nnunet_semisam.settings import Settings

SPACING = (10.0, 1.5, 1.5)


def prediction_of(label: np.ndarray) -> np.ndarray:
    """Return blurred one-hot probabilities ``(K, *S)``, so that a warp moves soft borders as a network has them."""
    one_hot = torch.stack([torch.from_numpy(label == k) for k in range(4)]).float()
    smooth = torch.nn.functional.avg_pool2d(one_hot, 3, 1, 1, count_include_pad=False).numpy()
    return smooth / smooth.sum(0)


@pytest.mark.realdata
@pytest.mark.skipif("NNUNET_SEMISAM_TEST_DATA" not in os.environ, reason="NNUNET_SEMISAM_TEST_DATA is not set")
def test_on_a_real_heart_confidence_tells_right_from_wrong_and_fusion_loses_nothing(tmp_path: Path) -> None:
    folder = Path(os.environ["NNUNET_SEMISAM_TEST_DATA"]) / "ACDC" / "database" / "training" / "patient082"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    label_file = min(folder.glob("*_gt.nii.gz"))
    image = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(label_file).replace("_gt", ""))).astype(np.float32)
    label = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(label_file))).astype(np.int16)
    labels = Labels.of_classes(4)
    specialist = simulate_generalisation_error(prediction_of(label), label, labels, 0.7, SPACING, "patient082")
    backend = build_backend("nano", BackendOptions(torch.device("cpu")))
    cache = EmbeddingCache(tmp_path, "2d", 1.0)
    generalist = build_generalist("nano", backend, Settings.of(use_sam=True), labels, cache, SPACING)
    result = generalist.predict_case(CaseInput("patient082", image[None], specialist, SPACING))
    weights = GeneralistWeights.unmeasured(3)
    fused = fuse(specialist, result.prediction, labels, weights, FusionSettings(), CasePriors())

    foreground, right = fused.label > 0, fused.label == label
    firm = foreground & (fused.confidence >= 0.9)
    doubtful = foreground & (fused.confidence >= 0.4) & (fused.confidence < 0.7)
    assert firm.sum() > 1000
    assert doubtful.sum() > 100
    assert right[firm].mean() > right[doubtful].mean() + 0.1
    assert dice(fused.label, label) > dice(labels.label_map(labels.foreground(specialist)), label)


def dice(label: np.ndarray, real: np.ndarray) -> float:
    return float(
        np.mean([2 * ((label == k) & (real == k)).sum() / ((label == k).sum() + (real == k).sum()) for k in (1, 2, 3)])
    )
