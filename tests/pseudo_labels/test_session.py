"""How the trainer turns stored pseudo-labels into targets, and when it asks for new ones."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from nnunet_semisam.config import SemiSAMConfig
from nnunet_semisam.pseudo_labels.layout import LabelLayout
from nnunet_semisam.pseudo_labels.session import PseudoLabelSession

CLASSES = LabelLayout((1, 2), False, (), lambda probs: probs.argmax(0))
REGIONS = LabelLayout((1, 2), True, ((1, 2), (2,)), lambda probs: probs)


def session(layout: LabelLayout, class_trust: list[float] | None) -> PseudoLabelSession:
    """Return a session without SAM, store and network: only what its rules read."""
    made = object.__new__(PseudoLabelSession)
    made.layout, made.config, made.current_round = layout, SemiSAMConfig(use_sam=True), 0
    heads = 2 if layout.has_regions else 3
    made.trainer = SimpleNamespace(
        method=SimpleNamespace(class_trust=lambda: class_trust),
        label_manager=SimpleNamespace(num_segmentation_heads=heads),
    )
    return made


def test_a_voxel_counts_as_much_as_its_label_is_likely_and_its_class_is_mature_now():
    label = torch.tensor([[[[0, 1, 2, 2, -1]]]], dtype=torch.int16)
    trust = torch.tensor([[[[1.0, 0.8, 0.8, 0.4, 0.0]]]])
    pseudo = session(CLASSES, [0.5, 1.0, 0.5]).to_pseudo_label(label, trust)
    # 0.4 is below the threshold of 0.5; maturity alone never takes a voxel below it
    assert pseudo.trust.flatten().tolist() == pytest.approx([0.5, 0.8, 0.4, 0.0, 0.0])
    assert pseudo.target.argmax(1).flatten().tolist() == [0, 1, 2, 2, 0]


def test_a_method_without_a_gate_trusts_all_classes():
    pseudo = session(CLASSES, None).to_pseudo_label(torch.ones(1, 1, 2, 2, dtype=torch.int16), torch.ones(1, 1, 2, 2))
    assert pseudo.trust.eq(1).all()


def test_an_immature_region_is_left_out_of_the_loss():
    logits = torch.zeros(1, 2, 4, 4)
    label = torch.ones(1, 2, 4, 4, dtype=torch.bool)
    losses = []
    for maturity in ([1.0, 0.0], [1.0, 1.0]):
        made = session(REGIONS, maturity)
        losses.append(made.loss(logits, made.to_pseudo_label(label, torch.ones(1, 1, 4, 4)), 1.0)[1]["sam"])
    one, both = losses
    assert one < both


@pytest.mark.parametrize(
    ("layout", "class_trust", "ready"),
    [
        (CLASSES, [0.6, 0.6, 0.6], True),
        (CLASSES, [0.1, 1.0, 0.1], True),
        (CLASSES, [0.0, 1.0, 0.0], False),  # what is called background could be class 2
        (REGIONS, [0.9, 0.0], True),
        (REGIONS, [0.0, 0.0], False),
    ],
)
def test_sam_is_asked_only_when_the_network_finds_every_class(layout, class_trust, ready):
    assert session(layout, class_trust)._can_prompt(class_trust) is ready
