"""How the trainer turns stored pseudo-labels into targets, and when it asks for new ones."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels.session import PseudoLabelSession
from nnunet_semisam.pseudo_labels.store import PseudoLabelStore
from nnunet_semisam.settings.config import SemiSAMConfig

CLASSES = Labels((1, 2), False, (), lambda probs: probs.argmax(0))
REGIONS = Labels((1, 2), True, ((1, 2), (2,)), lambda probs: probs)


def session(layout: Labels, class_trust: list[float] | None) -> PseudoLabelSession:
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


def test_the_first_round_takes_as_many_cases_as_a_twentieth_of_the_whole_training_pays_for(tmp_path):
    made = session(CLASSES, None)
    made.config = SemiSAMConfig(use_sam=True, num_epochs=20, num_iterations_per_epoch=10)
    made.trainer.batch_size = 2
    # 0.05 * 7 forwards * patches / 4 windows: 20 patches an epoch give 1 case, 400 patches give 35
    assert (made._affordable(1, windows_per_case=4), made._affordable(20, windows_per_case=4)) == (1, 35)

    asked = []
    made.pool = SimpleNamespace(files={f"case_{i:02d}": None for i in range(40)})
    made.stage = SimpleNamespace(refresh=lambda index, cases, epoch, **ranks: asked.append(cases))
    made.store = PseudoLabelStore(tmp_path / "store")
    made.reader = SimpleNamespace(point_to=lambda index: None)
    made.trainer.is_ddp, made._calibrated, made._next_round = False, lambda index: True, 0
    made.cases_per_refresh, made.cases_at_first = 3, 35
    made._refresh(epoch=8)
    (tmp_path / "store" / "round_000").mkdir(parents=True)
    made._refresh(epoch=9)
    assert asked == [[f"case_{i:02d}" for i in range(35)], ["case_03", "case_04", "case_05"]]
