"""One invented case from the image to its pseudo-label, without a training: for pictures and the notebook.

Prompts, masks, fusion and confidence are those of a training; only the network is replaced, by the label with an error.

Shapes in this file: ``K`` output channels (background and three classes). Volumes are ``(Z, Y, X)``.
"""

from __future__ import annotations

import tempfile

import numpy as np
import torch

from nnunet_semisam.demo import phantom
from nnunet_semisam.generalists.base import CaseInput
from nnunet_semisam.generalists.build import backend_of_settings, build_generalist
from nnunet_semisam.generalists.embedding_cache import EmbeddingCache
from nnunet_semisam.generalists.weights import GeneralistWeights
from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels.fusion import CasePriors, fuse
from nnunet_semisam.pseudo_labels.generalisation_error import simulate_generalisation_error
from nnunet_semisam.pseudo_labels.preview import Preview, informative_slice
from nnunet_semisam.pseudo_labels.settings import SAMSettings
from nnunet_semisam.settings import Settings

NAMES = ("RV", "MYO", "LV")
CASE = "invented"


def labels() -> Labels:
    """Return the labels of an invented heart: right ventricle, myocardium, left ventricle."""
    return Labels((1, 2, 3), False, (), lambda probs: probs.argmax(axis=0), NAMES)


def draw_case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return image and label of an invented heart at end-diastole, ``(Z, Y, X)``, int16 and uint8.

    Args:
        seed: Same seed, same heart.
    """
    rng = np.random.default_rng(seed)
    heart = phantom.Heart.draw(rng)
    label = phantom.draw_labels(heart, systole=False)
    return phantom.draw_image(heart, label, rng), label


def simulated_prediction(label: np.ndarray, dice: float) -> np.ndarray:
    """Return what a network of some quality could have predicted: the label, warped until its mean Dice is ``dice``.

    Args:
        label: ``(Z, Y, X)``, labels 0 to 3.
        dice: In [0, 1].

    Returns:
        Probabilities, ``(K, Z, Y, X)``, float32, in [0, 1].
    """
    exact = np.eye(4, dtype=np.float32)[label].transpose(3, 0, 1, 2)
    return simulate_generalisation_error(exact, label, labels(), dice, phantom.SPACING_MM, CASE)


def pseudo_label(image: np.ndarray, specialist: np.ndarray, **blocks: dict) -> Preview:
    """Return what the nano SAM makes of a prediction, and the pseudo-label that both give.

    Args:
        image: ``(Z, Y, X)``.
        specialist: The network's probabilities, ``(K, Z, Y, X)``, in [0, 1].
        blocks: Blocks of settings, such as ``nano={"prompt": "box"}``.

    Raises:
        UserError: If a setting is not allowed.

    Example:
        >>> image, label = draw_case(seed=0)
        >>> shown = pseudo_label(image, simulated_prediction(label, dice=0.7))
        >>> shown.fused.label.shape == label.shape, float(shown.fused.confidence.max()) <= 1
        (True, True)
    """
    settings, classes, spacing = Settings.of(use_sam=True, **blocks), labels(), phantom.SPACING_MM
    scaled = ((image - image.mean()) / image.std()).astype(np.float32)  # nnU-Net's z-score
    backend = backend_of_settings("nano", settings, torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        cache = EmbeddingCache(folder, CASE, 0.0)
        generalist = build_generalist("nano", backend, settings, classes, cache, spacing)
        result = generalist.predict_case(CaseInput(CASE, scaled[None], specialist, spacing))
    weights = GeneralistWeights.unmeasured(classes.channels)
    fused = fuse(specialist, result.prediction, classes, weights, settings.block("fusion"), CasePriors())
    predicted = classes.label_map(classes.foreground(specialist))
    index = informative_slice(predicted, 0)
    sam: SAMSettings = settings.block("sam")
    return Preview(
        title="invented heart",
        image=scaled,
        specialist=predicted,
        prediction=result.prediction,
        prompts=generalist.prompts_in_slice(result, index),
        fused=fused,
        axis=0,
        index=index,
        spacing=spacing,
        threshold=sam.confidence_threshold,
        generalist=generalist.name,
        weights=weights.weight,
    )
