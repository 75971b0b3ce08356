"""Train a SAM on the examples of a few labeled cases, and stop when it no longer gets better on a hold-out.

A run is a function of its settings, base and data; its checkpoint holds all the rest, so a run that was killed goes on
where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn
from tqdm import tqdm

from nnunet_semisam.errors import UserError, shown
from nnunet_semisam.io.tensor_files import read_tensors
from nnunet_semisam.labels import Labels
from nnunet_semisam.sam.adapters.adapter_file import base_digest
from nnunet_semisam.sam.adapters.examples import (
    HOLDOUT_SEED,
    LabeledImages,
    data_digest,
    draw,
    kinds_for,
    simulated_prompts,
    split_holdout,
    whole_classes,
)
from nnunet_semisam.sam.adapters.loss import adaptation_loss, overlaps
from nnunet_semisam.sam.adapters.parts import LearningParts, choose_parts
from nnunet_semisam.sam.adapters.settings import AdaptationSettings
from nnunet_semisam.sam.base import SAMBackend
from nnunet_semisam.sam.checkpoints import save_atomically

REMEDY = "Delete it to begin again."
DECODED_AT_ONCE = 16  # prompts, of the hold-out


@dataclass(frozen=True)
class Adapted:
    """The end of a run.

    Attributes:
        state: What learned, at the best look at the hold-out.
        steps: Optimiser steps until then; 0: nothing was better than the base.
        before: Dice of the base on the hold-out, by class, and the mean of them as ``mean``.
        after: Dice of ``state``.
        held_out: The hold-out, in words.
        data: Digest of images and labels.
        images: How many images were learned from.
        learned: Cases that were learned from, in part at least.
    """

    state: dict[str, Tensor]
    steps: int
    before: dict[str, float]
    after: dict[str, float]
    held_out: str
    data: str
    images: int
    learned: tuple[str, ...]


class Adaptation:
    """One run.

    Args:
        backend: The SAM; it learns in place, and is left with its last weights.
        cases: Labeled cases, images that show a class only.
        labels: What the numbers in their label maps mean.
        settings: The block ``adaptation``.
        checkpoint: File of the run's state; one that is there is resumed.
        log: Receives lines for the user.

    Raises:
        UserError: If there is nothing to learn from or to judge by, or the checkpoint is of another run.
    """

    def __init__(
        self,
        backend: SAMBackend,
        cases: Sequence[LabeledImages],
        labels: Labels,
        settings: AdaptationSettings,
        checkpoint: Path,
        log: Callable[[str], object] = print,
    ) -> None:
        if backend.spatial_dims != 2:
            raise UserError(
                f"{type(backend).__name__} sees volumes; prompts are simulated in slices only. Adapt a 2D model."
            )
        self.backend, self.labels, self.settings, self.checkpoint, self.log = backend, labels, settings, checkpoint, log
        self.cases, held_out, self.held_out = split_holdout([case for case in cases if len(case)], settings)
        self.holdout = _thinned(held_out, settings.most_holdout_images)
        self.kinds = kinds_for(backend.prompt_kinds)
        record = choose_parts(backend, settings)
        self.identity = {
            "settings": settings.to_dict(),
            "parts": str(record),
            "base": base_digest(backend),
            "data": data_digest(cases),
        }
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)  # low-rank adapters begin at random
            self.parts = LearningParts(backend, record)
        self.optimizer = _optimizer(self.parts.parameters(), settings)
        self.step, self.looks_in_vain = 0, 0
        self.before: dict[str, float] = {}
        self.best: dict[str, Any] = {}

    @property
    def base(self) -> str:
        """Return the digest of the weights that the run began with."""
        return self.identity["base"]

    def run(self) -> Adapted:
        """Train to the end, or until the hold-out gets no better.

        Raises:
            UserError: If the training diverges.
        """
        if not self._resume():
            self.before = self._look()
            self.best = {"state": self.parts.state(), "step": 0, "dice": self.before}
        with tqdm(total=self.settings.steps, initial=self.step, unit="step", desc="adapt", disable=None) as bar:
            bar.set_postfix(dice=f"{self.best['dice']['mean']:.3f}")
            while self.step < self.settings.steps and self.looks_in_vain < self.settings.patience:
                self._train_step()
                bar.update()
                if self.step % self.settings.validate_every == 0 or self.step == self.settings.steps:
                    self._judge()
                    bar.set_postfix(dice=f"{self.best['dice']['mean']:.3f}")
        return Adapted(
            self.best["state"],
            self.best["step"],
            self.before,
            self.best["dice"],
            self.held_out,
            self.identity["data"],
            sum(map(len, self.cases)),
            tuple(case.case for case in self.cases),
        )

    def _train_step(self) -> None:
        settings = self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(settings, self.step)
        objects = draw(self.cases, self.labels, settings, self.step)
        generator = Generator().manual_seed(settings.seed + 7919 * (self.step + 1))
        kind = self.kinds[int(torch.randint(len(self.kinds), (), generator=generator))]
        prompts = simulated_prompts(objects, kind, settings, generator)
        prediction = self.backend.decode(self.backend.encode(objects.images), prompts)
        device = prediction.logits.device
        loss = adaptation_loss(prediction, objects.masks.to(device), objects.valid.to(device), settings.quality_weight)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parts.parameters(), settings.gradient_norm)
        if not bool(torch.isfinite(loss.detach() + norm)):
            raise UserError(
                f"The adaptation diverged at step {self.step} (loss {float(loss.detach())}). Set adaptation: "
                f"{{learning_rate: ...}} below {settings.learning_rate:g}."
            )
        self.optimizer.step()
        self.step += 1

    def _look(self) -> dict[str, float]:
        return holdout_dice(self.backend, self.holdout, self.labels, self.kinds, self.settings)

    def _judge(self) -> None:
        found = self._look()
        if found["mean"] > self.best["dice"]["mean"]:
            self.best = {"state": self.parts.state(), "step": self.step, "dice": found}
            self.looks_in_vain = 0
        else:
            self.looks_in_vain += 1
        state = {
            "identity": self.identity,
            "step": self.step,
            "looks_in_vain": self.looks_in_vain,
            "before": self.before,
            "best": self.best,
            "state": self.parts.state(),
            "optimizer": self.optimizer.state_dict(),
        }
        save_atomically(state, self.checkpoint)

    def _resume(self) -> bool:
        """Go on from the checkpoint, if there is one; return whether there was."""
        if not self.checkpoint.exists():
            return False
        content = read_tensors(self.checkpoint, REMEDY)
        identity = content.get("identity")
        other = [
            name
            for name, value in self.identity.items()
            if not isinstance(identity, dict) or identity.get(name) != value
        ]
        if other:
            raise UserError(f"{self.checkpoint} is of an adaptation with other {', '.join(other)}. {REMEDY}")
        try:
            self.parts.load_state(content["state"])
            self.optimizer.load_state_dict(content["optimizer"])
            self.step, self.looks_in_vain = content["step"], content["looks_in_vain"]
            self.before, self.best = content["before"], content["best"]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{self.checkpoint} is damaged ({shown(str(error))}). {REMEDY}") from error
        self.log(f"Going on from step {self.step} of {self.checkpoint}.")
        return True


def learning_rate(settings: AdaptationSettings, step: int) -> float:
    """Return the learning rate of a step: a linear warm-up, then polynomial decay over all steps.

    Example:
        >>> settings = AdaptationSettings(learning_rate=1.0, warmup=4, steps=10, decay=1.0)
        >>> [round(learning_rate(settings, step), 2) for step in (0, 3, 5, 9)]
        [0.25, 0.7, 0.5, 0.1]
    """
    rise = min(1.0, (step + 1) / max(1, settings.warmup))
    return settings.learning_rate * rise * (1 - step / settings.steps) ** settings.decay


def _optimizer(parameters: Sequence[nn.Parameter], settings: AdaptationSettings) -> torch.optim.AdamW:
    """Return AdamW with weight decay on matrices and kernels, none on biases, norms and embeddings of one row."""
    decayed = [p for p in parameters if p.ndim > 1 and p.shape[0] > 1]
    others = [p for p in parameters if p.ndim <= 1 or p.shape[0] == 1]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=settings.learning_rate)


def _thinned(cases: Sequence[LabeledImages], most: int) -> list[LabeledImages]:
    """Return cases with at most ``most`` images together (one of each case at least), evenly spaced."""
    share = min(1.0, most / sum(map(len, cases)))
    return [
        case.select(np.unique(np.linspace(0, len(case) - 1, max(1, int(share * len(case)))).round().astype(int)))
        for case in cases
    ]


@torch.no_grad()
def holdout_dice(
    backend: SAMBackend,
    cases: Sequence[LabeledImages],
    labels: Labels,
    kinds: Sequence[str],
    settings: AdaptationSettings,
) -> dict[str, float]:
    """Return the Dice of a SAM with simulated prompts, which are the same in every call.

    Every class is prompted once in every image that shows it, with every kind of prompt; a Dice is over all voxels of a
    case, its mean over cases and kinds.

    Args:
        backend: The SAM.
        cases: Labeled images.
        labels: What the numbers in the label maps mean.
        kinds: Kinds of prompts.
        settings: How wrong prompts are.

    Returns:
        Class -> Dice in [0, 1], without classes that no image shows, and the mean of all as ``mean``.
    """
    scores: dict[int, list[float]] = {}
    for number, case in enumerate(cases):
        objects = whole_classes(case, labels, settings.smallest)
        embedding = backend.encode(objects.images)
        for k, kind in enumerate(kinds):
            generator = Generator().manual_seed(HOLDOUT_SEED + 101 * number + k)
            prompts = simulated_prompts(objects, kind, settings, generator)
            counts = []
            for start in range(0, len(prompts), DECODED_AT_ONCE):
                part = slice(start, start + DECODED_AT_ONCE)
                logits = backend.decode(embedding, prompts.select(part)).logits.cpu()
                counts.append(overlaps(logits, objects.masks[part], objects.valid[part]))
            counts = torch.cat(counts)
            for channel in objects.channel.unique().tolist():
                common, both = counts[objects.channel == channel].sum(0).tolist()
                scores.setdefault(channel, []).append(common / max(1, both))
    table = {labels.names[channel]: float(np.mean(scores[channel])) for channel in sorted(scores)}
    return table | {"mean": float(np.mean(list(table.values())))}
