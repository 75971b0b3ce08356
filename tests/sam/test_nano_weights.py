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


def mean_dice(sam: torch.nn.Module, embedding: torch.Tensor, batch: TrainingBatch) -> float:
    with torch.no_grad():
        logits, quality, target, ambiguous = next(iter(predictions(sam, embedding, batch, CPU)))
    guess, real = choose_masks(logits, quality, ambiguous)[0] > 0, target > 0.5
    return float((2 * (guess & real).sum((1, 2)) / (guess.sum((1, 2)) + real.sum((1, 2)))).mean())


def batches(kind: str) -> list[TrainingBatch]:
    data = SyntheticBatches(2, VALIDATION_SEED, groups=1, kinds=(kind,))
    return [data[i] for i in range(len(data))]


@pytest.fixture(scope="module")
def encoded() -> tuple[torch.nn.Module, list[tuple[torch.Tensor, torch.Tensor]]]:
    """SAM, and of each batch the encoded images and the encoded blank ones; the kind of prompt changes no image."""
    sam = build_backend("nano", BackendOptions(CPU)).sam
    pairs = []
    for batch in batches("box"):
        blank = replace(batch, images=torch.full_like(batch.images, 127))
        pairs.append((encode(sam, batch, CPU), encode(sam, blank, CPU)))
    return sam, pairs


@pytest.mark.parametrize("kind", ["box", "points", KINDS_USED])
def test_shipped_weights_look_at_the_image(encoded, kind: str) -> None:
    sam, pairs = encoded
    dice = [[mean_dice(sam, e, batch) for e in pair] for pair, batch in zip(pairs, batches(kind), strict=True)]
    seen, blank = np.mean(dice, axis=0)
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
