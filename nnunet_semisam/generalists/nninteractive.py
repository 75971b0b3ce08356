"""nnInteractive as a generalist: it refines the specialist's components, one object after the other.

The package (Apache-2.0, the extra ``nninteractive``) is used through its published inference session. Its published
weights are under CC BY-NC-SA 4.0, which fine-tuned weights inherit, so nothing runs before the settings accept it.

It predicts masks without probabilities, and one object at a time, in seconds: a generalist for the rounds between
epochs. How reliable a voxel is says the agreement of several sets of prompts about one object.

Shapes in this file: ``F`` foreground classes or regions. Volumes are ``(Z, Y, X)``.

Source: Isensee et al., nnInteractive, https://arxiv.org/abs/2503.08373; https://github.com/MIC-DKFZ/nnInteractive 2.6.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nnunet_semisam.errors import UserError, shown
from nnunet_semisam.generalists.base import (
    CaseInput,
    CasePrediction,
    CaseResult,
    Generalist,
    GeneralistContext,
    PromptCounts,
    stopwatch,
)
from nnunet_semisam.generalists.nninteractive_folder import check_model_folder
from nnunet_semisam.generalists.prediction import (
    RejectionSettings,
    is_rejected,
    merge_window,
    rejected_window,
    without_doubtful,
)
from nnunet_semisam.generalists.settings import register_generalist
from nnunet_semisam.generalists.views import as_tensor
from nnunet_semisam.io.tensor_files import loading_only_tensors
from nnunet_semisam.labels import Labels
from nnunet_semisam.prompts.base import PromptSettings
from nnunet_semisam.prompts.components import Component, ComponentSettings, find_components
from nnunet_semisam.prompts.points import negative_points, positive_points
from nnunet_semisam.settings import Settings, SettingsBlock, setting

if TYPE_CHECKING:
    from nnInteractive.inference.inference_session import nnInteractiveInferenceSession

NAME = "nninteractive"
LICENCE = "CC BY-NC-SA 4.0"
PAGE = "https://huggingface.co/MIC-DKFZ/nnInteractive"
LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class NNInteractiveSettings(SettingsBlock):
    """Weights of nnInteractive, whether their licence is accepted, and how objects are prompted."""

    model_folder: str | None = setting(
        None, "Folder of the trained model: it holds `plans.json`, `dataset.json` and a folder `fold_...`."
    )
    accept_licence: str | None = setting(
        None,
        """The licence of the weights, written out, once you accept it: `CC BY-NC-SA 4.0` for the published ones (no
        commercial use; weights and labels made with them may be bound by it). Without it the model is not used.""",
    )
    channel: int = setting(0, "Image channel that the model sees, counted from 0.", low=0)
    prompt_sets: tuple[str, ...] = setting(
        ("mask", "mask_points", "points"),
        """Sets of prompts that each object is prompted with, out of `mask`, `mask_points` and `points`: the share of
        them that agrees is the probability, and how much they agree the reliability.""",
        source="ours; UR-SAM, https://arxiv.org/abs/2311.10529, compares jittered prompts",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = [name for name in self.prompt_sets if name not in PROMPT_SETS]
        if unknown or not self.prompt_sets or len(set(self.prompt_sets)) < len(self.prompt_sets):
            raise UserError(
                f"The setting prompt_sets must name at least one of {', '.join(PROMPT_SETS)}, each once; got "
                f"{shown(list(self.prompt_sets))}."
            )


def check(settings: Settings) -> None:
    """Refuse a training whose settings do not accept the licence or name no model.

    Raises:
        UserError: If that is so.
    """
    block: NNInteractiveSettings = settings.block(NAME)
    if block.accept_licence is None:
        raise UserError(
            f"The published weights of nnInteractive are under {LICENCE}: not for commercial use, and what is made of "
            f"them stays under it ({PAGE}). If you accept that, set {NAME}: {{accept_licence: {LICENCE}}}; or leave "
            f"{NAME} out of sam: {{models: [...]}}."
        )
    if block.model_folder is None:
        raise UserError(
            f"No weights for {NAME}: get a model folder from {PAGE} and name it in the settings, "
            f"{NAME}: {{model_folder: ...}}. It is not fetched."
        )
    folder = Path(block.model_folder).expanduser()
    missing = [name for name in ("plans.json", "dataset.json") if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"The setting {NAME}: {{model_folder: ...}} names {folder}, which has no {' and no '.join(missing)}. Name "
            f"the folder of a trained model from {PAGE}."
        )


@dataclass(frozen=True)
class ObjectPrompts:
    """What an object can be prompted with.

    Attributes:
        mask: The specialist's component in the whole volume, ``(Z, Y, X)``, uint8, 0 or 1.
        points: Voxels and whether they are inside the object, those inside first.
    """

    mask: np.ndarray
    points: Sequence[tuple[tuple[int, ...], bool]]


def _prompt_mask(session: nnInteractiveInferenceSession, prompts: ObjectPrompts) -> None:
    session.add_initial_seg_interaction(prompts.mask, run_prediction=True)


def _prompt_mask_points(session: nnInteractiveInferenceSession, prompts: ObjectPrompts) -> None:
    session.add_initial_seg_interaction(prompts.mask, run_prediction=False)
    _add_points(session, prompts)


def _prompt_points(session: nnInteractiveInferenceSession, prompts: ObjectPrompts) -> None:
    session.reset_interactions()
    _add_points(session, prompts)


def _add_points(session: nnInteractiveInferenceSession, prompts: ObjectPrompts) -> None:
    for number, (voxel, inside) in enumerate(prompts.points, start=1):
        session.add_point_interaction(voxel, include_interaction=inside, run_prediction=number == len(prompts.points))


# Each begins from nothing, and ends with a prediction in the session's target buffer.
PROMPT_SETS: dict[str, Callable[[Any, ObjectPrompts], None]] = {
    "mask": _prompt_mask,
    "mask_points": _prompt_mask_points,
    "points": _prompt_points,
}


@dataclass(frozen=True)
class NNInteractiveParts:
    """What the generalist is made of besides the session.

    Attributes:
        own: Its block.
        components: Which connected components are prompted.
        prompts: How many points.
        rejection: Which masks are rejected.
    """

    own: NNInteractiveSettings
    components: ComponentSettings
    prompts: PromptSettings
    rejection: RejectionSettings


class NNInteractive(Generalist):
    """Prompts nnInteractive with each component of the specialist's prediction, several times.

    Args:
        session: Of nnInteractive, with a model.
        parts: Settings.
        labels: What the network's output channels mean.
    """

    name = NAME

    def __init__(self, session: nnInteractiveInferenceSession, parts: NNInteractiveParts, labels: Labels) -> None:
        self.session, self.parts, self.labels = session, parts, labels
        self.channel = parts.own.channel

    def predict_case(self, case: CaseInput) -> CaseResult:
        """Predict one case; see :class:`Generalist`.

        Raises:
            UserError: If the image lacks the channel, or is 0 everywhere.
        """
        shape = case.image.shape[1:]
        prediction = CasePrediction.empty((self.labels.channels, *shape))
        counts = np.zeros((3, self.labels.channels), dtype=int)
        seconds = {"encode": 0.0, "decode": 0.0}
        with stopwatch(seconds, "decode"):
            probs = as_tensor(self.labels.foreground(case.specialist))[None]
            components = find_components(probs, self.labels.has_regions, self.parts.components)
        if not components:
            return CaseResult(prediction, PromptCounts.none(self.labels.channels), seconds)
        with stopwatch(seconds, "encode"):
            buffer = self._show(case)
        with stopwatch(seconds, "decode"):
            for component in components:
                counts[:, component.channel] += self._predict(component, buffer, prediction)
        prediction = without_doubtful(prediction, self.parts.rejection.rectify_below)
        found = PromptCounts(*(tuple(int(number) for number in row) for row in counts))
        return CaseResult(prediction, found, seconds, None, components)

    def _show(self, case: CaseInput) -> np.ndarray:
        """Give the session the image, and return the buffer that its masks appear in, ``(Z, Y, X)``, uint8."""
        if self.channel >= len(case.image):
            raise UserError(
                f"The setting {NAME}: {{channel: {self.channel}}} names a channel that case {case.name!r} lacks: it "
                f"has {len(case.image)}, counted from 0."
            )
        image = np.ascontiguousarray(case.image[self.channel : self.channel + 1], dtype=np.float32)
        if not image.any():
            raise UserError(f"The image of case {case.name!r} is 0 everywhere: nnInteractive cannot normalise it.")
        self.session.set_image(image)  # which it normalises itself, whatever the unit
        buffer = np.zeros(image.shape[1:], dtype=np.uint8)
        self.session.set_target_buffer(buffer)
        return buffer

    def _predict(self, component: Component, buffer: np.ndarray, prediction: CasePrediction) -> tuple[int, bool, bool]:
        """Prompt an object, write its mask or its rejection, and return its counts: prompted, rejected, empty."""
        prompts = self._prompts(component, buffer.shape)
        votes, area = np.zeros(component.inside.shape, dtype=np.float32), 0.0
        sets = self.parts.own.prompt_sets
        for name in sets:
            PROMPT_SETS[name](self.session, prompts)
            votes += buffer[component.window] > 0
            area += np.count_nonzero(buffer) / len(sets)
        place = (component.channel, *component.window)
        rejected = is_rejected(round(area), component.voxels, self.parts.rejection.factor)
        if rejected:
            prediction.rejected[place] |= rejected_window(component, self.parts.rejection.margin)
        else:
            probs = votes / len(sets)
            merge_window(prediction, place, probs, 1 - 4 * probs * (1 - probs))
        return 1, rejected, area == 0

    def _prompts(self, component: Component, shape: tuple[int, ...]) -> ObjectPrompts:
        settings = self.parts.prompts
        mask = np.zeros(shape, dtype=np.uint8)
        mask[component.window] = component.inside
        corner = [side.start for side in component.window]
        inside = positive_points(component, settings.positive_points)
        outside = negative_points(component, settings.negative_points, settings.outside_depth)
        points = [*((voxel, True) for voxel in inside), *((voxel, False) for voxel in outside)]
        moved = [(tuple(i + c for i, c in zip(voxel, corner, strict=True)), positive) for voxel, positive in points]
        return ObjectPrompts(mask, moved)


def open_session(folder: Path, accepted: str, device: torch.device) -> nnInteractiveInferenceSession:
    """Return a session of nnInteractive with the model of a folder.

    Code that the checkpoint or the plans name is never run: the package would allow it. The session must not change how
    many threads torch
    uses in the training.

    Raises:
        UserError: If the package is missing, the model cannot be loaded, or it is under another licence than accepted.
    """
    try:
        from nnInteractive.inference.inference_session import nnInteractiveInferenceSession
    except ImportError as error:
        raise UserError(
            f'nnInteractive is not installed ({error}): pip install "nnunet-semisam[nninteractive]"'
        ) from error
    remedy = f"Get the folder again from {PAGE}."
    check_model_folder(folder, remedy)
    session = nnInteractiveInferenceSession(
        device=device,
        use_torch_compile=False,
        verbose=False,
        torch_n_threads=torch.get_num_threads(),
        enable_undo=False,
    )
    try:
        with loading_only_tensors():
            session.initialize_from_trained_model_folder(str(folder))
    except Exception as error:  # whatever is wrong with the folder, the package raises
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"The nnInteractive model in {folder} cannot be loaded: {shown(reason)}. {remedy}") from error
    if session.license != accepted:
        raise UserError(
            f"The weights in {folder} are under the licence {shown(session.license)}, and the settings accept "
            f"{shown(accepted)}. If you accept theirs, set {NAME}: {{accept_licence: ...}} to it; a model without a "
            "known licence needs a file LICENSE in its folder that begins with it."
        )
    LOGGER.warning("nnInteractive: the weights in %s are under %s.", folder, session.license)
    return session


def check_model(session: nnInteractiveInferenceSession, prompt_sets: Sequence[str]) -> None:
    """Refuse sets of prompts that the loaded model was not trained with.

    Raises:
        UserError: If there are any.
    """
    has_points = bool(session.supported_interactions.get("points", False))
    possible = {
        "mask": session.supports_initial_label and session.supports_zero_shot_label_refinement,
        "mask_points": session.supports_initial_label and has_points,
        "points": has_points,
    }
    impossible = [name for name in prompt_sets if not possible[name]]
    if impossible:
        raise UserError(
            f"The nnInteractive model does not know the prompts of {', '.join(impossible)}. Set {NAME}: {{prompt_sets: "
            f"...}} to some of: {', '.join(name for name in possible if possible[name]) or 'none'}."
        )


@register_generalist(NAME, NNInteractiveSettings, check)
def build(context: GeneralistContext) -> Generalist:
    """Return what ``sam: {models: [nninteractive]}`` names."""
    settings = context.settings
    check(settings)
    own: NNInteractiveSettings = settings.block(NAME)
    session = open_session(Path(own.model_folder).expanduser(), own.accept_licence, context.device)
    check_model(session, own.prompt_sets)
    blocks = (settings.block(name) for name in ("components", "prompts", "rejection"))
    return NNInteractive(session, NNInteractiveParts(own, *blocks), context.labels)
