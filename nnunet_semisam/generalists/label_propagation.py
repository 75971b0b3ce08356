"""Labels of labeled cases travel to other cases through the memory of a SAM; nothing is prompted.

SSL-MedSAM2, https://arxiv.org/abs/2512.11548: a labeled volume, with its label as masks, is put among the slices of an
unlabeled one, and the objects are followed out of it as in a video. The mean over several such videos is the
prediction, its entropy the uncertainty. Where this differs: the memory gets some slices of the labeled volume, not
all; the places where it is put are evenly spaced, not random, so that the same case gets the same prediction; the
largest component is left to the connectivity prior, which knows the structures that have one.

Shapes in this file: ``F`` foreground classes or regions, ``N`` slices along the chosen axis, ``H, W`` of a slice.
Volumes are ``(Z, Y, X)``; here they are turned to ``(N, H, W)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nnunet_semisam.generalists.base import (
    CaseInput,
    CasePrediction,
    CaseResult,
    Generalist,
    GeneralistContext,
    LabeledSource,
    PromptCounts,
    stopwatch,
)
from nnunet_semisam.generalists.lent_labels import learned_from_itself, lenders_of
from nnunet_semisam.generalists.prediction import NO_NUMBER
from nnunet_semisam.generalists.settings import register_generalist
from nnunet_semisam.generalists.video_sam import VideoEncoder, VideoSAMSettings
from nnunet_semisam.labels import Labels
from nnunet_semisam.sam.base import Embedding
from nnunet_semisam.settings import setting

PAPER = "SSL-MedSAM2, https://arxiv.org/abs/2512.11548"


@dataclass(frozen=True, kw_only=True)
class LabelPropagationSettings(VideoSAMSettings):
    """Labeled cases are put into the memory of a SAM, which follows their structures into other cases."""

    labeled_cases: int = setting(
        2,
        "Labeled cases from which labels travel to a case, each by itself; their masks are averaged.",
        low=1,
        source=f"{PAPER}, takes all",
    )
    memory_slices: int = setting(
        8,
        """Slices of a labeled case in the memory, evenly spaced over its structures and one slice beyond. Time and
        memory grow with it: every slice that is followed is compared with each of them.""",
        low=1,
        source=f"{PAPER}, takes all",
    )
    insertions: int = setting(
        2,
        """Places among the slices of a case from which structures are followed towards both ends, evenly spaced; the
        masks are averaged.""",
        low=1,
        source=f"{PAPER}, takes 5 random ones",
    )


@dataclass(frozen=True)
class _Support:
    """Slices of a labeled case, and where its classes are in them, ``(F, N, H, W)``, bool."""

    embedding: Embedding
    masks: torch.Tensor


def memory_slices(masks: np.ndarray, usable: np.ndarray, count: int) -> list[int]:
    """Return which slices of a labeled case the memory gets, ascending.

    Evenly spaced from one slice before the first structure to one after the last: where a structure ends is worth
    knowing, too.

    Args:
        masks: Where the classes are, ``(F, N, H, W)``, bool.
        usable: Slices that are annotated throughout, ``(N,)``, bool; no others are taken.
        count: Most slices.

    Example:
        >>> masks = np.zeros((1, 9, 4, 4), dtype=bool)
        >>> masks[0, 3:6] = True
        >>> memory_slices(masks, np.ones(9, dtype=bool), count=3)
        [2, 4, 6]
    """
    shown = np.flatnonzero(masks.any(axis=(0, 2, 3)))
    if len(shown) == 0:
        return []
    candidates = [i for i in range(max(0, shown[0] - 1), min(len(usable), shown[-1] + 2)) if usable[i]]
    return evenly(candidates, count)


def evenly(items: Sequence, count: int) -> list:
    """Return at most ``count`` of the items, evenly spaced; both ends if there are several.

    Example:
        >>> evenly("abcdefg", 3), evenly("abc", 5), evenly("abc", 1)
        (['a', 'd', 'g'], ['a', 'b', 'c'], ['b'])
    """
    if len(items) <= count:
        return list(items)
    if count == 1:
        return [items[len(items) // 2]]
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


class LabelPropagation(Generalist):
    """Predicts a case from labeled cases alone; the specialist's prediction is not looked at.

    Labels are those of the fold's training cases. Which of them travel to a labeled case, which the calibration
    measures, says :mod:`nnunet_semisam.generalists.lent_labels`.

    Args:
        name: Name in logs, records and calibration.
        video: The SAM and its view of cases.
        labeled: The labeled training cases of the fold.
        settings: The block ``label_propagation``.
        labels: What the network's output channels mean.
    """

    def __init__(
        self,
        name: str,
        video: VideoEncoder,
        labeled: LabeledSource,
        settings: LabelPropagationSettings,
        labels: Labels,
    ) -> None:
        self.name, self.video, self.labeled, self.settings, self.labels = name, video, labeled, settings, labels
        self.channel, self.axis = settings.channel, video.axis
        self.learned = learned_from_itself(name, labeled)

    @torch.no_grad()
    def predict_case(self, case: CaseInput) -> CaseResult:
        """Predict one case; see :class:`Generalist`.

        Raises:
            UserError: If an image lacks the channel, or a labeled case cannot be read.
        """
        seconds = {"encode": 0.0, "decode": 0.0}
        channels = self.labels.channels
        hits = self.video.encoder.cache.hits
        with stopwatch(seconds, "encode"):
            query = self.video.embedding(case.name, case.image)
            cached = self.video.encoder.cache.hits > hits
        total = np.zeros((channels, len(query), *query.image_shape), dtype=np.float32)
        videos = np.zeros(channels, dtype=int)
        for name in evenly(lenders_of(case.name, self.labeled), self.settings.labeled_cases):
            with stopwatch(seconds, "encode"):
                support = self._support(name)
            if support is None:
                continue
            with stopwatch(seconds, "decode"):
                known = support.masks.flatten(1).any(dim=1).numpy()  # a class that a case lacks cannot travel from it
                for place in self._places(len(query)):
                    total[known] += self._video(support, query, place)[known]
                    videos += known
        prediction = self._prediction(total, videos)
        return CaseResult(prediction, PromptCounts.none(channels), seconds, cached)

    def about(self) -> dict[str, str]:
        """Return name, weights and view; see :class:`Generalist`."""
        return {"name": self.name, **self.video.about()}

    def _support(self, name: str) -> _Support | None:
        """Return what the memory gets of a labeled case; ``None`` if no annotated slice shows anything."""
        label = self.labeled.load_label(name)
        members = np.stack([self.labels.members(label, f) for f in range(self.labels.channels)])
        masks = self.video.slices_first(members)
        ignored = self.video.slices_first((label > max(self.labels.foreground_labels))[None])[0]
        chosen = memory_slices(masks, ~ignored.any(axis=(1, 2)), self.settings.memory_slices)
        if not chosen or not masks[:, chosen].any():
            return None
        embedding = self.video.embedding(name, self.labeled.load_image(name))
        return _Support(embedding.select(torch.tensor(chosen)), torch.from_numpy(masks[:, chosen].copy()))

    def _places(self, count: int) -> list[int]:
        """Return the slices before which a labeled case is put."""
        wanted = self.settings.insertions
        return sorted({round((i + 0.5) * count / wanted) for i in range(wanted)})

    def _video(self, support: _Support, query: Embedding, place: int) -> np.ndarray:
        """Return probabilities ``(F, N, H, W)``: followed from the labeled case towards both ends."""
        found = np.zeros((self.labels.channels, len(query), *query.image_shape), dtype=np.float32)
        for order in (range(place, len(query)), range(place - 1, -1, -1)):
            if len(order):
                logits = self.video.backend.propagate_masks(support.embedding, support.masks, query, order)
                found[:, list(order)] = torch.nan_to_num(logits, nan=NO_NUMBER).sigmoid().numpy()
        return found

    def _prediction(self, total: np.ndarray, videos: np.ndarray) -> CasePrediction:
        """Return the mean over all videos, and 1 minus its binary entropy as reliability."""
        known = videos > 0
        probs = np.clip(total / np.maximum(1, videos).reshape(-1, 1, 1, 1), 0, 1).astype(np.float32)
        inner = np.clip(probs, 1e-6, 1 - 1e-6)
        entropy = -(inner * np.log2(inner) + (1 - inner) * np.log2(1 - inner))
        predicted = np.broadcast_to(known.reshape(-1, 1, 1, 1), probs.shape)
        maps = {
            "probs": probs,
            "reliability": np.where(predicted, 1 - entropy, 0).astype(np.float32),
            "predicted": predicted,
            "rejected": np.zeros(probs.shape, dtype=bool),
        }
        return CasePrediction(**{name: self.video.back(array) for name, array in maps.items()})


@register_generalist("label_propagation", LabelPropagationSettings)
def build(context: GeneralistContext) -> LabelPropagation:
    """Return what ``sam: {models: [label_propagation]}`` names, with a SAM of its own.

    Raises:
        UserError: If the SAM cannot be loaded or has no memory.
    """
    return LabelPropagation(
        "label_propagation",
        VideoEncoder.of("label_propagation", context),
        context.labeled,
        context.settings.block("label_propagation"),
        context.labels,
    )
