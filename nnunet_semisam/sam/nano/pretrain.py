"""Train the nano SAM from nothing on procedural images, or on labeled data sets of the user's own.

The run is a pure function of its settings: batch ``i`` depends on seed and ``i`` alone, and the checkpoint holds all
the rest, so a run that was killed goes on where it stopped.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from segment_anything.modeling import Sam
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from nnunet_semisam.errors import UserError, printable
from nnunet_semisam.io.atomic import remove_temporaries
from nnunet_semisam.io.csv_files import read_table, write_table
from nnunet_semisam.io.tensor_files import check_finite, read_tensors
from nnunet_semisam.sam.checkpoints import save_atomically
from nnunet_semisam.sam.mask_decoder import choose_masks, predict_masks, single_points
from nnunet_semisam.sam.nano.model import build_nano_sam, half_frame
from nnunet_semisam.sam.nano.pretrain_loss import edge_loss, prompt_loss
from nnunet_semisam.sam.nano.synthetic_batches import (
    KIND_SHARES,
    Source,
    SyntheticBatches,
    TrainingBatch,
    synthetic_source,
)

logger = logging.getLogger(__name__)
CHECKPOINT, LOG, WEIGHTS = "checkpoint_pretrain.pt", "pretrain_log.csv", "nano_sam.pt"
VALIDATION_SEED = 987_654
WINDOW_SHARE = 0.85  # of the steps, on windows
REMEDY = "Delete it to begin again, or give another --out."


@dataclass(frozen=True, kw_only=True)
class PretrainSettings:
    """Settings of a run.

    Attributes:
        steps: Optimiser steps in all; a longer run may be named when resuming.
        seed: Seed of weights and batches.
        images: Images in a batch.
        prompts: Prompts per image in each of two groups; a group shares one kind of prompt.
        learning_rate: Highest learning rate of AdamW.
        weight_decay: Of AdamW, on matrices and kernels only.
        warmup: Steps until the learning rate is reached.
        cooldown: Share of the steps, at the end, in which the learning rate falls to 0 along a cosine.
        curriculum: Steps in which sizes, jitter and kinds of prompts widen to their full range.
        ema_decay: Share of the averaged weights kept per step; the average is what is validated and exported.
        window_steps: Steps at the start that train on windows of half the frame's side, twice as many: things that are
            prompted for are mostly small, and a window costs a quarter. ``None``: those that the run was started with,
            or 85 % of the steps of a new run.
        validate_every: Steps between validations and exports.
        save_every: Steps between checkpoints.
        workers: Processes that make batches; 0 makes them in the training process.
        data: Folders of the labeled data sets that were trained with, for the record.
        synthetic_share: Share of procedural images, for the record.
    """

    steps: int = 20_000
    seed: int = 0
    images: int = 4
    prompts: int = 2
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warmup: int = 200
    cooldown: float = 0.3
    curriculum: int = 500
    ema_decay: float = 0.998
    window_steps: int | None = None
    validate_every: int = 500
    save_every: int = 100
    workers: int = 1
    data: tuple[str, ...] = ()
    synthetic_share: float = 1.0

    def __post_init__(self) -> None:
        least = dict.fromkeys(("steps", "images", "prompts", "warmup", "curriculum", "validate_every", "save_every"), 1)
        for name, low in {**least, "seed": 0, "window_steps": 0, "workers": 0}.items():
            if getattr(self, name) is not None and not low <= getattr(self, name) < 2**31:
                raise UserError(
                    f"The setting {name} must be at least {low} and below 2**31, got {getattr(self, name)}."
                )
        if not 0 < self.learning_rate < math.inf:
            raise UserError(f"The learning rate must be a number greater than 0, got {self.learning_rate}.")

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of optimiser step ``step``: warm-up, plateau, cosine cool-down."""
        rise = min(1.0, (step + 1) / self.warmup)
        start = self.steps * (1 - self.cooldown)
        fall = max(0.0, step - start) / max(1.0, self.steps - start)
        return self.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * min(1.0, fall)))


def normalised(sam: Sam, batch: TrainingBatch, device: torch.device) -> Tensor:
    """Return the images as the encoder wants them, padding 0, ``(B, 1, S, S)``."""
    images = (batch.images.to(device)[:, None].float() - sam.pixel_mean) / sam.pixel_std
    rows, columns = (torch.arange(size, device=device) for size in images.shape[2:])
    height, width = batch.valid.to(device).unbind(1)
    inside = (rows[None] < height[:, None])[:, :, None] & (columns[None] < width[:, None])[:, None]
    return (images * inside[:, None]).contiguous(memory_format=torch.channels_last)


def encode(sam: Sam, batch: TrainingBatch, device: torch.device) -> Tensor:
    """Return the features of the images, ``(B, C, S / 8, S / 8)``."""
    with torch.autocast(device.type, torch.bfloat16):
        return sam.image_encoder(normalised(sam, batch, device))


def predictions(
    sam: Sam, features: Tensor, batch: TrainingBatch, device: torch.device
) -> Iterable[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Yield logits ``(M, T, h, w)``, quality ``(M, T)``, targets and ambiguity of every group of prompts."""
    with torch.autocast(device.type, torch.bfloat16):
        position = sam.prompt_encoder.get_dense_pe()
        for group, target in zip(batch.prompts, batch.targets, strict=True):
            prompts = group.to(device)
            points = None if prompts.points is None else (prompts.points.flip(-1), prompts.point_labels)
            boxes = None if prompts.boxes is None else prompts.boxes.transpose(1, 2).flip(-1).flatten(1) - 0.5
            masks = None if prompts.mask_logits is None else prompts.mask_logits[:, None]
            sparse, dense = sam.prompt_encoder(points, boxes, masks)
            logits, quality = predict_masks(sam.mask_decoder, features[prompts.image], position, sparse, dense)
            others = boxes is not None or masks is not None
            ambiguous = single_points(prompts.point_labels, len(prompts), others, device)
            yield logits.float(), quality.float(), target.to(device), ambiguous


def build_optimizer(sam: nn.Module, settings: PretrainSettings) -> torch.optim.AdamW:
    """Return AdamW with weight decay on matrices and kernels, none on biases, norms and embeddings of one row."""
    decayed = [p for p in sam.parameters() if p.ndim > 1 and p.shape[0] > 1]
    others = [p for p in sam.parameters() if p.ndim <= 1 or p.shape[0] == 1]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98))


class Pretraining:
    """One run: model, average, optimiser and their checkpoint.

    Args:
        folder: Where checkpoint, log and weights go; made if it is not there. A checkpoint in it is resumed.
        settings: Settings of the run.
        device: Where to train.
        source: Where images and masks come from.

    Raises:
        UserError: If the folder's checkpoint is damaged, or of a run with other settings than length and cadence.
    """

    FREE_TO_CHANGE = ("steps", "cooldown", "validate_every", "save_every", "workers")

    def __init__(
        self, folder: Path, settings: PretrainSettings, device: torch.device, source: Source = synthetic_source
    ) -> None:
        self.folder, self.settings, self.device, self.source = folder, settings, device, source
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(settings.seed)
        self.sam = build_nano_sam().to(device, memory_format=torch.channels_last)
        self.average = {name: value.detach().clone() for name, value in self.sam.state_dict().items()}
        # An image-only task for the encoder, thrown away afterwards: where do regions end?
        self.edges = nn.Sequential(nn.Conv2d(self.sam.prompt_encoder.embed_dim, 16, 1), nn.PixelShuffle(4)).to(device)
        self.optimizer = build_optimizer(nn.ModuleList([self.sam, self.edges]), settings)
        self.step = 0
        remove_temporaries(folder)
        if (folder / CHECKPOINT).exists():
            self._resume_from(folder / CHECKPOINT)
        if self.settings.window_steps is None:
            self.settings = replace(self.settings, window_steps=round(WINDOW_SHARE * self.settings.steps))
        self.window = half_frame(self.sam)

    def _resume_from(self, path: Path) -> None:
        state = read_tensors(path, REMEDY)
        try:
            self._resume(state)
            if type(self.step) is not int or self.step < 0:
                raise ValueError(f"step {self.step!r}")
            if {n: v.shape for n, v in self.average.items()} != {n: v.shape for n, v in self.sam.state_dict().items()}:
                raise ValueError("the average is of another model")
        except UserError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            reason = printable(f"{type(error).__name__}: {error}", 200)
            raise UserError(f"{path} is no checkpoint of this command ({reason}). {REMEDY}") from error
        for part in (self.sam.state_dict(), self.average, self.edges.state_dict()):
            check_finite(part, path, REMEDY)

    def _resume(self, state: dict[str, Any]) -> None:
        theirs = state["settings"]
        if self.settings.window_steps is None:
            self.settings = replace(self.settings, window_steps=theirs["window_steps"])
        mine = asdict(self.settings)
        changed = [n for n in mine if n not in self.FREE_TO_CHANGE and theirs.get(n) != mine[n]]
        if changed:
            was = ", ".join(f"{n}={theirs.get(n)!r} (now {mine[n]!r})" for n in changed)
            raise UserError(
                f"The run in {self.folder} was started with {was}. A run goes on with its own settings only "
                f"({', '.join(self.FREE_TO_CHANGE)} may change): give those, or another --out."
            )
        self.sam.load_state_dict(state["model"])
        self.edges.load_state_dict(state["edges"])
        self.window = half_frame(self.sam)
        self.average = {name: value.to(self.device) for name, value in state["average"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]

    def run(self) -> Path:
        """Train to the end and return the file with the averaged weights."""
        settings = self.settings
        data = SyntheticBatches(
            settings.steps,
            settings.seed,
            settings.curriculum,
            settings.window_steps,
            images=settings.images,
            prompts=settings.prompts,
            source=self.source,
        )
        order = range(self.step, settings.steps)
        loader = DataLoader(data, batch_size=None, sampler=order, num_workers=settings.workers)
        bar = tqdm(loader, initial=self.step, total=settings.steps, unit="step", mininterval=5, disable=None)
        for batch in bar:
            loss = self._train_step(batch)
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            last = self.step == settings.steps
            if self.step % settings.validate_every == 0 or last:
                self._validate(loss)
            if self.step % settings.save_every == 0 or last:
                self._save()
        return self.export()

    def _train_step(self, batch: TrainingBatch) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate_at(self.step)
        sam = self.window if self.step < self.settings.window_steps else self.sam
        features = encode(sam, batch, self.device)
        losses = [prompt_loss(*each) for each in predictions(sam, features, batch, self.device)]
        with torch.autocast(self.device.type, torch.bfloat16):
            drawn = self.edges(features)
        loss = torch.stack(losses).mean() + edge_loss(drawn, batch.edges.to(self.device))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.sam.parameters(), 1.0)
        if not bool(torch.isfinite(loss.detach() + norm)):
            raise UserError(
                f"The training diverged: loss {float(loss.detach())} at step {self.step}. What {self.folder} holds is "
                "of earlier steps and whole. Train again with a lower --learning-rate and another --out."
            )
        self.optimizer.step()
        self.step += 1
        decay = min(self.settings.ema_decay, self.step / (self.step + 10))
        with torch.no_grad():
            for name, value in self.sam.state_dict().items():
                self.average[name].lerp_(value, 1 - decay)
        return float(loss.detach())

    @torch.no_grad()
    def _validate(self, loss: float) -> None:
        own = {name: value.clone() for name, value in self.sam.state_dict().items()}
        self.sam.load_state_dict(self.average)
        scores = validation_dice(self.sam, self.device, self.source)
        self.sam.load_state_dict(own)
        self.export()
        row = {"step": self.step, "loss": f"{loss:.4f}", "lr": f"{self.settings.learning_rate_at(self.step):.2e}"}
        row |= {name: f"{value:.4f}" for name, value in scores.items()}
        self._write_log(row)
        logger.info("%s", row)

    def _write_log(self, row: dict[str, Any]) -> None:
        """Add a row; those of later steps are of a run that was killed behind its checkpoint."""
        path, rows = self.folder / LOG, []
        if path.exists():
            try:
                rows = [each for each in read_table(path, list(row), "") if int(each["step"]) < self.step]
            except (UserError, ValueError) as error:
                logger.warning("The log begins again: %s", error)
        write_table(path, list(row), [{name: each[name] for name in row} for each in rows] + [row])

    def _save(self) -> None:
        state = {
            "step": self.step,
            "settings": asdict(self.settings),
            "model": self.sam.state_dict(),
            "edges": self.edges.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }
        save_atomically(state, self.folder / CHECKPOINT)

    def export(self) -> Path:
        """Write the averaged weights as float16 and return the file."""
        weights = {n: v.detach().cpu().contiguous().half() for n, v in self.average.items()}
        save_atomically(weights, self.folder / WEIGHTS)
        return self.folder / WEIGHTS


def validation_dice(
    sam: Sam, device: torch.device, source: Source = synthetic_source, batches: int = 4
) -> dict[str, float]:
    """Return the mean Dice of every kind of prompt on fixed batches at full difficulty.

    Args:
        sam: The model, on ``device``.
        device: Where to compute.
        source: Where images and masks come from.
        batches: Batches of 4 images with 2 prompts each, per kind.
    """
    scores = {}
    for kind in KIND_SHARES:
        data = SyntheticBatches(batches, VALIDATION_SEED, source=source, groups=1, kinds=(kind,))
        values = []
        for index in range(batches):
            batch = data[index]
            for logits, quality, target, ambiguous in predictions(sam, encode(sam, batch, device), batch, device):
                guess, _ = choose_masks(logits, quality, ambiguous)
                inside, real = guess > 0, target > 0.5
                values.append(2 * (inside & real).sum((1, 2)) / (inside.sum((1, 2)) + real.sum((1, 2))).clamp_min(1))
        scores[kind] = float(torch.cat(values).mean())
    return scores
