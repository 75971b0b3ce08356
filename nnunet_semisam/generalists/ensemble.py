"""Several generalists as one: each class is predicted by those that help there, weighted by how much they help.

Shapes in this file: ``F`` foreground classes or regions. Volumes are ``(Z, Y, X)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnunet_semisam.generalists.base import CaseInput, CasePrediction, CaseResult, Generalist, Values
from nnunet_semisam.generalists.temperature import tempered
from nnunet_semisam.generalists.weights import GeneralistWeights, combined
from nnunet_semisam.sam.base import PromptBatch


@dataclass(frozen=True)
class EnsemblePrediction(CasePrediction):
    """A prediction of several members, of which not all count everywhere.

    Attributes:
        counting: Which members count, a bit for each, ``(F, Z, Y, X)``, uint32.
        members: Weights of the members, in the order of the bits.
    """

    counting: np.ndarray
    members: tuple[GeneralistWeights, ...]

    def weights_at(self, f: int, weights: GeneralistWeights) -> tuple[Values, Values, Values]:
        """Return maps: voxel by voxel those of the members that count there; see :class:`CasePrediction`."""
        found, which = np.unique(self.counting[f], return_inverse=True)
        table = np.array([self._of(int(bits), f) for bits in found], dtype=np.float32)[which.reshape(-1)]
        weight, inside, outside = (column.reshape(self.counting[f].shape) for column in table.T)
        return weight, inside, outside

    def _of(self, bits: int, f: int) -> tuple[float, float, float]:
        some = [member for m, member in enumerate(self.members) if bits >> m & 1]
        if not some:
            return 0.0, 0.0, 0.0
        together = combined(some)
        return (together.weight[f], *together.disagreement[f])


class GeneralistEnsemble(Generalist):
    """The weighted mean of its members; one member whose temperatures are 1 is that member, bit for bit.

    Args:
        members: Generalists of different names, at least one. Pictures show what the first was prompted with.
        channels: ``F``.

    Raises:
        ValueError: If there is no member, or two have one name.

    Example:
        >>> from nnunet_semisam.generalists.base import PromptCounts
        >>> class Constant(Generalist):
        ...     def __init__(self, name, value):
        ...         self.name, self.value = name, value
        ...     def predict_case(self, case):
        ...         shape = (1, *case.image.shape[1:])
        ...         everywhere = np.ones(shape, dtype=bool)
        ...         probs = np.full(shape, self.value, dtype=np.float32)
        ...         prediction = CasePrediction(probs, np.ones_like(probs), everywhere, ~everywhere)
        ...         return CaseResult(prediction, PromptCounts.none(1), {})
        >>> ensemble = GeneralistEnsemble([Constant("first", 1.0), Constant("second", 0.0)], channels=1)
        >>> ensemble.use_weights([GeneralistWeights((0.5,), ((0, 0),)), GeneralistWeights((0.25,), ((0, 0),))])
        >>> case = CaseInput("case_1", np.zeros((1, 2, 2, 2)), np.zeros((2, 2, 2, 2)))
        >>> round(float(ensemble.predict_case(case).prediction.probs.mean()), 3)  # two thirds of the first
        0.667
    """

    def __init__(self, members: Sequence[Generalist], channels: int) -> None:
        names = [member.name for member in members]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"An ensemble needs at least one generalist, each of another name; got {names}.")
        self.members = tuple(members)
        self.name = "+".join(names)
        self.channel, self.axis = members[0].channel, members[0].axis
        self.use_weights([GeneralistWeights.unmeasured(channels)] * len(members))

    def use_weights(self, weights: Sequence[GeneralistWeights]) -> None:
        """Follow a calibration: one entry per member, in their order.

        Raises:
            ValueError: If the numbers do not fit.
        """
        if len(weights) != len(self.members):
            raise ValueError(f"The ensemble {self.name} needs {len(self.members)} weights, got {len(weights)}.")
        self.member_weights = tuple(weights)

    @property
    def weights(self) -> GeneralistWeights:
        """Return the weights of the ensemble as a whole, for the fusion."""
        return combined(self.member_weights)

    def predict_case(self, case: CaseInput) -> CaseResult:
        """Predict one case; members that help in no class are left out, unless none helps."""
        chosen = [m for m in range(len(self.members)) if self.member_weights[m].active]
        chosen = chosen or list(range(len(self.members)))
        results = [self.members[m].predict_case(case) for m in chosen]
        weights = [self.member_weights[m] for m in chosen]
        predictions = [
            tempered(result.prediction, each.temperature) for result, each in zip(results, weights, strict=True)
        ]
        prediction = predictions[0] if len(predictions) == 1 else merge(predictions, weights)
        return self._result(prediction, results, [self.members[m].name for m in chosen])

    def _result(self, prediction: CasePrediction, results: Sequence[CaseResult], names: Sequence[str]) -> CaseResult:
        counts, seconds = results[0].counts, dict(results[0].seconds)
        for result in results[1:]:
            counts = counts + result.counts
            for name, value in result.seconds.items():
                seconds[name] = seconds.get(name, 0.0) + value
        hits = [result.cache_hit for result in results if result.cache_hit is not None]
        took = {name: sum(result.seconds.values()) for name, result in zip(names, results, strict=True)}
        cached = all(hits) if hits else None
        return CaseResult(prediction, counts, seconds, cached, members=results, seconds_by_generalist=took)

    def end_round(self) -> None:
        """Tell all members; see :class:`Generalist`."""
        for member in self.members:
            member.end_round()

    def state_dict(self) -> dict[str, Any]:
        """Return what members remember, by name; those that remember nothing are left out."""
        states = {member.name: member.state_dict() for member in self.members}
        return {name: state for name, state in states.items() if state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let members go on with what they remembered; see :class:`Generalist`."""
        for member in self.members:
            if member.name in state:
                member.load_state_dict(state[member.name])

    def prompts_in_slice(self, result: CaseResult, index: int) -> PromptBatch:
        """Return the prompts of the first member that predicted the case; none if no member was asked."""
        if not result.members:
            return super().prompts_in_slice(result, index)
        chosen = [m for m in range(len(self.members)) if self.member_weights[m].active]
        return self.members[chosen[0] if chosen else 0].prompts_in_slice(result.members[0], index)


def merge(predictions: Sequence[CasePrediction], weights: Sequence[GeneralistWeights]) -> EnsemblePrediction:
    """Return the weighted mean of several predictions, class by class and voxel by voxel.

    A member counts where it predicted and was not rejected, by its weight in the class; if no member has any, all count
    alike. A voxel is rejected where a member was rejected and none counts.

    Args:
        predictions: Arrays ``(F, Z, Y, X)``.
        weights: Of each, ``F`` entries.
    """
    shape = predictions[0].probs.shape
    empty = CasePrediction.empty(shape)
    merged = EnsemblePrediction(**vars(empty), counting=np.zeros(shape, dtype=np.uint32), members=tuple(weights))
    for f in range(len(merged.probs)):
        shares = [each.weight[f] for each in weights]
        if max(shares) == 0:
            shares = [1.0] * len(shares)
        counting = [(p, share) for p, share in zip(predictions, shares, strict=True) if share > 0]
        for m, each in enumerate(predictions):
            if shares[m] > 0:
                merged.counting[f] |= (each.predicted[f] & ~each.rejected[f]).astype(np.uint32) << np.uint32(m)
        if len(counting) == 1:
            for name, array in vars(counting[0][0]).items():
                getattr(merged, name)[f] = array[f]
            continue
        _merge_channel(merged, f, counting)
    return merged


def _merge_channel(merged: CasePrediction, f: int, counting: Sequence[tuple[CasePrediction, float]]) -> None:
    total = np.zeros(merged.probs.shape[1:], dtype=np.float32)
    for prediction, share in counting:
        here = np.float32(share) * (prediction.predicted[f] & ~prediction.rejected[f])
        total += here
        merged.probs[f] += here * prediction.probs[f]
        merged.reliability[f] += here * prediction.reliability[f]
        merged.predicted[f] |= prediction.predicted[f]
        merged.rejected[f] |= prediction.rejected[f]
    merged.probs[f] /= np.maximum(total, np.float32(1e-9))
    merged.reliability[f] /= np.maximum(total, np.float32(1e-9))
    np.clip(merged.probs[f], 0, 1, out=merged.probs[f])
    np.clip(merged.reliability[f], 0, 1, out=merged.reliability[f])
    merged.rejected[f] &= total == 0
