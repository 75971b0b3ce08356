"""What a trained model says of an unlabeled case, and what a SAM adds: the numbers that rules of suggestion rank by.

Shapes in this file: ``K`` output channels of the network, ``F`` foreground classes or regions, ``Z, Y, X`` the axes of
nnU-Net's preprocessed arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

import nnunet_semisam.training.trainer  # noqa: F401  registers every block of settings
from nnunet_semisam.annotation.suggestions.base import CaseEvidence
from nnunet_semisam.annotation.uncertainty import Uncertainty, combine
from nnunet_semisam.generalists.base import CaseInput
from nnunet_semisam.generalists.build import backend_of_settings, build_generalist
from nnunet_semisam.generalists.embedding_cache import EmbeddingCache
from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels.case_outcome import dice
from nnunet_semisam.runs.raw_images import RawCase, RawImagePredictor
from nnunet_semisam.settings import Settings
from nnunet_semisam.settings.file import from_environment

MAYBE = 0.05  # probability of any foreground from which on a voxel counts: certain background would drown the rest
SecondOpinion = Callable[[str, RawCase, Tensor], "list[float | None]"]


@dataclass(frozen=True)
class Looked:
    """What was found out about a case.

    Attributes:
        evidence: Numbers.
        uncertainty: Maps at the spacing of the plans.
        logits: What nnU-Net makes its segmentation of, ``(K, Z, Y, X)``.
    """

    evidence: CaseEvidence
    uncertainty: Uncertainty
    logits: Tensor


def look_at(name: str, case: RawCase, model: RawImagePredictor, second: SecondOpinion | None = None) -> Looked:
    """Predict a case and return what rules rank by.

    Args:
        name: Name of the case.
        case: Its image.
        model: The model.
        second: Asks a SAM; ``None``: nobody is asked.
    """
    with deepest_features(model) as features:
        logits = model.logits(case)
    found = combine((probs for _, probs in model.views(case)), model.labels)
    label = _label_map(found.mean, model.labels)
    voxels = [int(model.labels.members(label, f).sum()) for f in range(model.labels.channels)]
    opinions = [None] * model.labels.channels if second is None else second(name, case, found.mean)
    return Looked(
        CaseEvidence(
            case=name,
            entropy=_mean_where_foreground(found.entropy, found.mean, model.labels),
            disagreement=_mean_where_foreground(found.disagreement, found.mean, model.labels),
            class_entropy=class_entropies(found, model.labels),
            class_voxels=voxels,
            generalist_dice=opinions,
            features=features(),
        ),
        found,
        logits,
    )


def features_of(case: RawCase, model: RawImagePredictor) -> list[float]:
    """Return the deepest features of the network, averaged over an image; empty if it has no encoder."""
    with deepest_features(model) as features:
        model.logits(case)
    return features()


@contextmanager
def deepest_features(model: RawImagePredictor) -> Iterator[Callable[[], list[float]]]:
    """Collect the output of the encoder's last stage while a case is predicted.

    Yields:
        A function that returns its mean over all patches and voxels, one number per channel.
    """
    sums: list[Tensor] = []
    encoder = getattr(model.predictor.network, "encoder", None)

    def collect(_module: object, _inputs: object, outputs: object) -> None:
        deepest = outputs[-1] if isinstance(outputs, (list, tuple)) else outputs
        sums.append(deepest.detach().float().flatten(2).mean(dim=2).mean(dim=0).cpu())

    handle = None if encoder is None else encoder.register_forward_hook(collect)
    try:
        yield lambda: torch.stack(sums).mean(dim=0).tolist() if sums else []
    finally:
        if handle is not None:
            handle.remove()


def class_entropies(found: Uncertainty, labels: Labels) -> list[float]:
    """Return the mean entropy of each foreground channel, weighted by its probability; ``F`` numbers in [0, 1]."""
    foreground = found.mean[labels.first_foreground :].flatten(1)
    total = foreground.sum(dim=1)
    weighted = (foreground * found.entropy.flatten()).sum(dim=1)
    return torch.where(total > 0, weighted / total.clamp(min=1e-9), 0.0).tolist()


def _mean_where_foreground(values: Tensor, mean: Tensor, labels: Labels) -> float:
    """Return the mean where foreground is likely enough, and over the whole image if it is nowhere."""
    likely = mean.max(dim=0).values if labels.has_regions else 1 - mean[0]
    inside = likely > MAYBE
    return float(values[inside].mean() if bool(inside.any()) else values.mean())


def _label_map(mean: Tensor, labels: Labels) -> np.ndarray:
    return labels.label_map(labels.foreground(mean.numpy()))


def ask_sam(name: str, model: RawImagePredictor, device: str) -> SecondOpinion:
    """Load a SAM and return a function that compares the model's prediction of a case with the SAM's.

    Args:
        name: Of a model in the table of families; its block of settings may be in the file that
            ``nnUNet_semisam_config`` names.
        model: Whose labels and spacing they are.
        device: Where the SAM runs.

    Raises:
        UserError: If there is no such SAM, or its weights cannot be loaded.
    """
    settings = from_environment(Settings.of(use_sam=True))
    backend = backend_of_settings(name, settings, torch.device(device))
    cache = EmbeddingCache(".", "none", 0.0)  # each case is seen once
    generalist = build_generalist(name, backend, settings, model.labels, cache, model.configuration.spacing)

    def ask(case_name: str, case: RawCase, mean: Tensor) -> list[float | None]:
        probs = mean.numpy().astype(np.float32)
        label = _label_map(mean, model.labels)
        spacing = tuple(float(case.properties["spacing"][axis]) for axis in model.plans.transpose_forward)
        if len(model.configuration.spacing) == len(spacing):
            spacing = tuple(map(float, model.configuration.spacing))
        else:
            spacing = (spacing[0], *map(float, model.configuration.spacing))
        image = case.image.numpy().astype(np.float32)
        prediction = generalist.predict_case(CaseInput(case_name, image, probs, spacing)).prediction
        masks = (prediction.probs > 0.5) & prediction.predicted
        return [dice(model.labels.members(label, f), masks[f]) for f in range(model.labels.channels)]

    return ask
