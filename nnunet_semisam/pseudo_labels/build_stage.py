"""The stage around one network: for a training, for a calibration of a trained network, for labels of self-training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import nn

from nnunet_semisam.context import TrainingContext
from nnunet_semisam.data.geometry import GeometryOf, known_direction, known_spacing
from nnunet_semisam.generalists.base import GeneralistContext
from nnunet_semisam.generalists.build import build_ensemble, embedding_cache
from nnunet_semisam.pseudo_labels.case_pipeline import StageInputs
from nnunet_semisam.pseudo_labels.labeled_cases import LabeledCases
from nnunet_semisam.pseudo_labels.specialist import CasePredictor
from nnunet_semisam.pseudo_labels.stage import PseudoLabelStage, StageOutputs


def build_stage(
    context: TrainingContext,
    network: nn.Module,
    labeled: LabeledCases,
    load_image: Callable[[str], np.ndarray],
    outputs: StageOutputs,
    geometry_of: GeometryOf | None = None,
) -> PseudoLabelStage:
    """Return the stage of a network, with the generalists that the settings name.

    Args:
        context: Settings, data, labels and device.
        network: The specialist; not used before the first case.
        labeled: The labeled training cases of the fold: what areas, connectivity and some generalists learn from.
        load_image: Returns the preprocessed image of a case, ``(C, Z, Y, X)``, float32.
        outputs: Where results go.
        geometry_of: Returns the geometry of a case, or ``None`` if it is not known; by default what is on file.

    Raises:
        UserError: If a generalist cannot be built, or a labeled case cannot be read.
    """
    settings, data = context.settings, context.data
    sam, spacing = settings.block("sam"), data.configuration_manager.spacing
    predict = CasePredictor(context, network, sam.tile_step)
    inputs = StageInputs(
        load_image=load_image,
        predict=predict,
        spacing=spacing,
        spacing_of=lambda case: known_spacing(data, case, geometry_of),
        direction_of=lambda case: known_direction(data, case, geometry_of),
        predict_mirrored=predict.mirrored if sam.mirror else None,
        priors=labeled.priors(settings.block("connectivity")),
    )
    cache = embedding_cache(settings, data.preprocessed_dataset, data.data_identifier)
    built_of = GeneralistContext(
        settings,
        context.labels,
        cache,
        spacing,
        context.device,
        predict,
        labeled,
        inputs.spacing_of,
        data.preprocessed_dataset.name,
    )
    return PseudoLabelStage(settings, build_ensemble(built_of), context.labels, inputs, outputs)
