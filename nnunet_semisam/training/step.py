"""One optimiser step on one labeled and one unlabeled batch.

Backward passes come one after the other, so that the activations of one batch only are alive and memory stays near
stock. The unlabeled passes come first and do not synchronise under DDP; the labeled one always exists and synchronises
all.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, autocast, nn

from nnunet_semisam.methods.base import SSLMethod
from nnunet_semisam.methods.batches import LabeledBatch, UnlabeledBatch
from nnunet_semisam.methods.parts.histograms import match_some_histograms
from nnunet_semisam.methods.parts.networks import unwrap
from nnunet_semisam.training.optimisation import Optimisation
from nnunet_semisam.training.unlabeled_pass import UnlabeledPass


@dataclass(frozen=True)
class SemiSupervisedStep:
    """Takes steps; call it with two batches.

    Attributes:
        network: The student as nnU-Net trains it: wrapped by DDP, compiled.
        loss: nnU-Net's loss: ``(outputs, targets)``, lists over deep-supervision levels where the network has them.
        method: What to learn from unlabeled patches.
        unlabeled_pass: Computes their losses.
        optimisation: Steps all optimisers.
        device: Where the network computes.
        random_share: Share of the labeled patches, the first of a batch, that were drawn at random and not for their
            foreground.
        unlabeled_random_share: The same of the unlabeled patches.
    """

    network: nn.Module
    loss: Callable[[Any, Any], Tensor]
    method: SSLMethod
    unlabeled_pass: UnlabeledPass
    optimisation: Optimisation
    device: torch.device
    random_share: float
    unlabeled_random_share: float = 1.0

    def needs_unlabeled(self, progress: float) -> bool:
        """Return whether the next step reads an unlabeled batch; if not, none has to be made."""
        return self.unlabeled_pass.needs_unlabeled(progress)

    def __call__(self, batch: dict, unlabeled_batch: dict | None, progress: float) -> dict[str, Any]:
        """Take a step.

        Args:
            batch: Labeled patches from nnU-Net's loader: ``data`` ``(B, C, *S)``, and ``target``, a list over
                deep-supervision levels of ``(B, 1, *S_level)``, finest first.
            unlabeled_batch: Views from :class:`~nnunet_semisam.data.unlabeled_loader.UnlabeledLoader`; ``None`` where
                the step needs none.
            progress: Fraction of the training done, in [0, 1].

        Returns:
            ``loss`` as nnU-Net logs it (the labeled one), and one number per term of our log.
        """
        unlabeled = None if unlabeled_batch is None else self._unlabeled(unlabeled_batch, progress)
        labeled = self._with_their_contrast(self._labeled(batch), unlabeled)
        drawn, labeled = labeled, self.method.augment_labeled(labeled, progress)
        self.optimisation.zero_grad()
        with self._without_synchronisation():
            losses = self.unlabeled_pass.losses(self.network, labeled, unlabeled, progress, drawn)
            while (loss := self._next(losses)) is not None:
                self.optimisation.backward(loss)
        with self._autocast():
            supervised = self.supervised_loss(self.network, labeled)
        self.optimisation.backward(supervised)
        with self._autocast():
            owned = self.method.owned_loss(self.network, labeled, unlabeled, progress)
        if owned is not None:
            self.optimisation.backward(owned)
        self.optimisation.step()
        self.method.after_step(unwrap(self.network))
        numbers, (loss,) = self.unlabeled_pass.read_log(supervised.detach())
        return {"loss": np.float32(loss), **numbers}

    def supervised_loss(self, network: nn.Module, labeled: LabeledBatch) -> Tensor:
        """Return nnU-Net's loss of a network on a labeled batch."""
        output = network(labeled.data)
        target = list(labeled.levels) if isinstance(output, (list, tuple)) else labeled.target
        return self.loss(output, target)

    def _next(self, losses: Any) -> Tensor | None:
        """Compute the next term; autocast covers its forward pass and not the backward pass of the one before."""
        with self._autocast():
            return next(losses, None)

    def _labeled(self, batch: dict) -> LabeledBatch:
        data = self._to_device(batch["data"])
        target = batch["target"]
        levels = tuple(self._to_device(level) for level in (target if isinstance(target, list) else [target]))
        return LabeledBatch(data, levels, round(len(data) * self.random_share))  # nnUNetDataLoader puts these first

    def _with_their_contrast(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None) -> LabeledBatch:
        """Return labeled patches of which some have the contrast of unlabeled ones."""
        probability = self.method.settings.histogram_matching_probability
        if probability == 0 or unlabeled is None:
            return labeled
        return replace(labeled, data=match_some_histograms(labeled.data, unlabeled.weak, probability))

    def _unlabeled(self, batch: dict, progress: float) -> UnlabeledBatch:
        weak, strong = self._to_device(batch["weak"]), self._to_device(batch["strong"])
        strong2 = self._to_device(batch["strong2"]) if "strong2" in batch else None
        num_random = round(len(weak) * self.unlabeled_random_share)
        term, pseudo = self.unlabeled_pass.pseudo_labels, None
        if term is not None and term.weight(progress) > 0:
            label = self._to_device(batch["pseudo_label"])
            confidence = self._to_device(batch["pseudo_confidence"])
            pseudo = term.pseudo_label(label, confidence, self._to_device(batch["pseudo_weight"]))
        return UnlabeledBatch(weak, strong, pseudo, strong2, num_random)

    def _to_device(self, values: Tensor) -> Tensor:
        return values.to(self.device, non_blocking=True)

    def _autocast(self) -> AbstractContextManager:
        """Return nnU-Net's autocast, without its cache.

        A forward pass casts each weight once, so the cache saves nothing. But a method predicts targets without
        gradients and trains in one context, and a weight that was cast and cached without gradients stays without.
        """
        return autocast("cuda", cache_enabled=False) if self.device.type == "cuda" else nullcontext()

    def _without_synchronisation(self) -> AbstractContextManager:
        is_ddp = isinstance(self.network, nn.parallel.DistributedDataParallel)
        return self.network.no_sync() if is_ddp else nullcontext()
