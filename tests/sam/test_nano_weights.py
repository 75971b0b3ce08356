"""The weights that ship: they must look at the image, and beat what needs no SAM on real hearts."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch

from nnunet_semisam.sam import BackendOptions, build_backend
from nnunet_semisam.sam.evaluate import BLANK, CONTROLS, evaluate_volume
from nnunet_semisam.sam.mask_decoder import choose_masks
from nnunet_semisam.sam.nano.pretrain import VALIDATION_SEED, encode, predictions
from nnunet_semisam.sam.nano.synthetic_batches import SyntheticBatches, TrainingBatch

CPU = torch.device("cpu")
RV, MYO = 1, 2
KINDS_USED = "box+points+mask"


def mean_dice(sam: torch.nn.Module, batch: TrainingBatch) -> float:
    with torch.no_grad():
        logits, quality, target, ambiguous = next(iter(predictions(sam, encode(sam, batch, CPU), batch, CPU)))
    guess, real = choose_masks(logits, quality, ambiguous)[0] > 0, target > 0.5
    return float((2 * (guess & real).sum((1, 2)) / (guess.sum((1, 2)) + real.sum((1, 2)))).mean())


@pytest.mark.parametrize("kind", ["box", "points", KINDS_USED])
def test_shipped_weights_look_at_the_image(kind: str) -> None:
    sam = build_backend("nano", BackendOptions(CPU)).sam
    data = SyntheticBatches(3, VALIDATION_SEED, groups=1, kinds=(kind,))
    seen = np.mean([mean_dice(sam, data[i]) for i in range(3)])
    blank = np.mean([mean_dice(sam, replace(data[i], images=torch.full_like(data[i].images, 127))) for i in range(3)])
    assert seen > blank + 0.05


@pytest.mark.realdata
@pytest.mark.skipif("NNUNET_SEMISAM_TEST_DATA" not in os.environ, reason="NNUNET_SEMISAM_TEST_DATA is not set")
def test_shipped_weights_beat_ellipse_mask_and_blank_image_on_a_real_heart() -> None:
    folder = Path(os.environ["NNUNET_SEMISAM_TEST_DATA"]) / "ACDC" / "database" / "training" / "patient082"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    frame = sorted(file for file in folder.glob("*_frame*.nii.gz") if "_gt" not in file.name)[0]
    label_file = frame.with_name(frame.name.replace(".nii.gz", "_gt.nii.gz"))
    image, label_map = (SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(file))) for file in (frame, label_file))
    backend = build_backend("nano", BackendOptions(CPU))
    dice = evaluate_volume(backend, image[:, None].astype(np.float32), label_map, (RV, MYO), kinds=(KINDS_USED,))
    for label in (RV, MYO):
        others = [dice[kind, label] for kind in (*CONTROLS, f"{KINDS_USED}, {BLANK}")]
        assert dice[KINDS_USED, label] > max(others), dice
