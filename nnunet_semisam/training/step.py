"""One optimiser step on one labeled and one unlabeled batch.

Two backward passes, so that the activations of one batch only are alive and memory stays near stock. The unlabeled pass
comes first and does not synchronise under DDP; the labeled one always exists and synchronises both.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from torch import Tensor, autocast, nn

from nnunet_semisam.methods import LabeledBatch, LossTerms, UnlabeledBatch
from nnunet_semisam.methods.parts.ema import unwrap

if TYPE_CHECKING:
    from nnunet_semisam.training.trainer import SemiSupervisedTrainer

GRADIENT_CLIP_NORM = 12.0  # as nnUNetTrainer.train_step, nnU-Net 2.8.1


def semi_supervised_step(trainer: SemiSupervisedTrainer, batch: dict, unlabeled_batch: dict) -> dict:
    """Take a step.

    Args:
        trainer: Gives network, loss, method, optimiser and progress.
        batch: Labeled patches from nnU-Net's loader: ``data`` ``(B, C, *S)``, and ``target``, a list over
            deep-supervision levels of ``(B, 1, *S_level)``, finest first.
        unlabeled_batch: Views from :class:`~nnunet_semisam.data.unlabeled_loader.UnlabeledLoader`.

    Returns:
        ``loss`` as nnU-Net logs it (the labeled one), and one entry per term of the method's log.
    """
    data, target = (_to_device(batch[name], trainer.device) for name in ("data", "target"))
    labeled = _labeled_batch(trainer, data, target)
    unlabeled = _unlabeled_batch(trainer, unlabeled_batch)
    method, progress = trainer.method, trainer.progress
    for optimizer in (trainer.optimizer, *method.optimizers()):
        optimizer.zero_grad(set_to_none=True)
    with trainer.network.no_sync() if trainer.is_ddp else nullcontext():
        with _autocast(trainer):
            terms = method.unsupervised_loss(trainer.network, labeled, unlabeled, progress)
            total, log = _add_sam_term(trainer, terms, progress)
        if total is not None:
            _backward(trainer, total)
    with _autocast(trainer):
        supervised = trainer.loss(trainer.network(data), target)
        labeled_terms = method.labeled_loss(trainer.network, labeled, supervised, progress)
    _backward(trainer, labeled_terms.total)
    _optimizer_step(trainer)
    method.after_step(unwrap(trainer.network))
    return {"loss": supervised.detach().cpu().numpy(), **log, **labeled_terms.log}


def _labeled_batch(trainer: SemiSupervisedTrainer, data: Tensor, target: Tensor | list[Tensor]) -> LabeledBatch:
    num_random = round(len(data) * (1 - trainer.oversample_foreground_percent))  # nnUNetDataLoader puts these first
    return LabeledBatch(data, target[0] if isinstance(target, list) else target, num_random)


def _unlabeled_batch(trainer: SemiSupervisedTrainer, batch: dict) -> UnlabeledBatch:
    weak, strong = (_to_device(batch[name], trainer.device) for name in ("weak", "strong"))
    session = trainer.pseudo_labels
    if session is None or session.weight(trainer.progress) == 0:
        return UnlabeledBatch(weak, strong)
    label, trust = (_to_device(batch[name], trainer.device) for name in ("pseudo_label", "pseudo_trust"))
    return UnlabeledBatch(weak, strong, session.to_pseudo_label(label, trust))


def _add_sam_term(
    trainer: SemiSupervisedTrainer, terms: LossTerms, progress: float
) -> tuple[Tensor | None, dict[str, float]]:
    if trainer.pseudo_labels is None:
        return terms.total, dict(terms.log)
    loss, log = trainer.pseudo_labels.loss(terms.strong_logits, terms.pseudo, progress)
    parts = [part for part in (terms.total, loss) if part is not None]
    return (sum(parts) if parts else None), {**terms.log, **log}


def _to_device(x: Any, device: Any) -> Any:
    if isinstance(x, list):
        return [_to_device(level, device) for level in x]
    return x.to(device, non_blocking=True)


def _autocast(trainer: SemiSupervisedTrainer) -> AbstractContextManager:
    return autocast("cuda") if trainer.device.type == "cuda" else nullcontext()


def _backward(trainer: SemiSupervisedTrainer, loss: Tensor) -> None:
    (loss if trainer.grad_scaler is None else trainer.grad_scaler.scale(loss)).backward()


def _optimizer_step(trainer: SemiSupervisedTrainer) -> None:
    """Clip and step as nnU-Net does, its optimiser and those of the method."""
    scaler = trainer.grad_scaler
    for optimizer in (trainer.optimizer, *trainer.method.optimizers()):
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if scaler is None:
            nn.utils.clip_grad_norm_(parameters, GRADIENT_CLIP_NORM)
            optimizer.step()
        else:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(parameters, GRADIENT_CLIP_NORM)
            scaler.step(optimizer)
    if scaler is not None:
        scaler.update()
