"""Pictures of a few cases: what the network predicted, how SAM was prompted, and what came of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nnunet_semisam.generalists.base import CaseResult
from nnunet_semisam.generalists.temperature import tempered
from nnunet_semisam.generalists.weights import GeneralistWeights
from nnunet_semisam.pseudo_labels.case_pipeline import CasePipeline, MeasuredCase
from nnunet_semisam.pseudo_labels.fusion import FusedLabel, fuse


class CasePictures:
    """Draws cases into a folder.

    Args:
        pipeline: Predicted the cases that are drawn.
        folder: Where pictures go; ``None`` draws none.
    """

    def __init__(self, pipeline: CasePipeline, folder: Path | None) -> None:
        self.pipeline, self.folder = pipeline, folder

    def write_labeled(self, round_index: int, shown: MeasuredCase, weights: GeneralistWeights) -> None:
        """Draw a labeled case of a calibration as the first generalist saw it, fused with the weights just found."""
        result = shown.results[0]
        prediction = tempered(result.prediction, weights.temperature)
        fused = fuse(
            shown.specialist,
            prediction,
            self.pipeline.labels,
            weights,
            self.pipeline.settings.block("fusion"),
            self.pipeline.inputs.priors,
        )
        name = f"round_{round_index:03d}_labeled_{shown.case}"
        title = f"{shown.case} (labeled; generalisation error simulated), calibration of round {round_index}"
        image = self.pipeline.inputs.load_image(shown.case)
        self.write(name, title, image, shown.specialist, result, fused, weights, shown.label)

    def write(
        self,
        name: str,
        title: str,
        image: np.ndarray,
        prompted: np.ndarray,
        result: CaseResult,
        fused: FusedLabel,
        weights: GeneralistWeights,
        label: np.ndarray | None = None,
    ) -> None:
        """Draw the most informative slice of a case.

        Args:
            name: File name without its ending.
            title: Title of the picture.
            image: ``(C, Z, Y, X)``.
            prompted: The specialist's probabilities that were prompted with, ``(K, Z, Y, X)``.
            result: What the generalists made of it; with ``label``, what the first one did.
            fused: The pseudo-label.
            weights: How much the generalists contributed.
            label: Label map of a labeled case, ``(Z, Y, X)``.
        """
        # matplotlib takes a second to load
        from nnunet_semisam.pseudo_labels.preview import Preview, informative_slice, write_preview

        specialist = self.pipeline.labels.label_map(self.pipeline.labels.foreground(prompted))
        axis = self.pipeline.ensemble.axis
        index = informative_slice(np.maximum(specialist, fused.label), axis)
        source = self.pipeline.ensemble if label is None else self.pipeline.ensemble.members[0]
        preview = Preview(
            title=title,
            image=image[self.pipeline.ensemble.channel],
            specialist=specialist,
            prediction=result.prediction,
            prompts=source.prompts_in_slice(result, index),
            fused=fused,
            axis=axis,
            index=index,
            spacing=self.pipeline.inputs.spacing,
            threshold=self.pipeline.settings.block("sam").confidence_threshold,
            generalist=source.name,
            weights=weights.weight,
            label=label,
        )
        write_preview(self.folder / f"{name}.png", preview, self.pipeline.labels)
