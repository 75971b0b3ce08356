"""nnU-Net's own logger of Weights & Biases takes our numbers, too; the library itself is replaced here."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from nnunetv2.training.logging import nnunet_logger

from nnunet_semisam.errors import UserError
from nnunet_semisam.training.start import WANDB


class Run:
    """What ``wandb.init`` returns, as far as nnU-Net uses it."""

    step = 0

    def __init__(self):
        self.config, self.summary, self.logged = {}, {}, []

    def log(self, values, step):
        self.logged.append((step, values))


def test_each_term_arrives_with_its_epoch(build_trainer, monkeypatch):
    run = Run()
    monkeypatch.setattr(nnunet_logger, "wandb", SimpleNamespace(init=lambda **options: run))
    monkeypatch.setenv(WANDB, "1")
    trainer = build_trainer(num_epochs=2, num_iterations_per_epoch=1)
    trainer.run_training()
    losses = [
        (step, values["semisam/unlabeled_loss"]) for step, values in run.logged if "semisam/unlabeled_loss" in values
    ]
    assert losses == [(epoch, row["unlabeled_loss"]) for epoch, row in enumerate(trainer.semisam_log.rows)]
    assert {"train_losses", "semisam/unlabeled_weight"} <= {name for _, values in run.logged for name in values}


@pytest.mark.parametrize(("value", "message"), [("1", "pip install wandb"), ("yes", "'yes'. Allowed: 0 or 1")])
def test_a_logger_that_cannot_be_is_refused_in_a_line(build_trainer, monkeypatch, value, message):
    monkeypatch.setattr(nnunet_logger, "wandb", None)
    monkeypatch.setenv(WANDB, value)
    with pytest.raises(UserError, match=message):
        build_trainer()
