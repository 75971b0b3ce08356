"""The figures of a round: those of its cases put together. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nnunet_semisam.pseudo_labels.round_log import CaseRecord


@dataclass(frozen=True)
class ClassSummary:
    """Figures of one class or region over the cases of a round.

    Attributes:
        name: The label, or the labels of the region (``1+2``).
        agreement: Mean Dice between specialist and generalist over the cases where the generalist answered; ``None``
            if it never did.
        confidence: Mean confidence in [0, 1] of the class's voxels, over the cases that show it; ``None`` if none does.
        confident_share: Share of those voxels that pass the confidence threshold; ``None`` likewise.
        prompts: How many components the generalist was prompted with.
        rejected: How many masks were rejected, empty ones included.
        empty: How many masks were empty.
        weight: Share of the generalist in the fused probability at the time.
        histogram: Voxels by confidence, bins of equal width over [0, 1].
    """

    name: str
    agreement: float | None
    confidence: float | None
    confident_share: float | None
    prompts: int
    rejected: int
    empty: int
    weight: float
    histogram: tuple[int, ...]


@dataclass(frozen=True)
class RoundSummary:
    """A round over the cases it refreshed.

    Attributes:
        number: Number of the round.
        epoch: Epoch of the network whose predictions prompted the generalist.
        cases: How many cases were refreshed.
        seconds_by_part: Time by part of the work (load, predict, encode, decode, fuse), sums over the cases.
        seconds_by_generalist: Time that each generalist took, sums over the cases.
        confident_share: Share of all voxels that pass the confidence threshold; ``None`` without a case.
        cache_hit_rate: Share of the needed embeddings that were cached; ``None`` if none was needed.
        classes: One entry per foreground class or region; none without a case.
    """

    number: int
    epoch: int
    cases: int
    seconds_by_part: dict[str, float]
    seconds_by_generalist: dict[str, float]
    confident_share: float | None
    cache_hit_rate: float | None
    classes: tuple[ClassSummary, ...]

    def log_text(self) -> str:
        """Return one line; the rest is in the records of rounds."""
        confident = "-" if self.confident_share is None else f"{100 * self.confident_share:.0f} %"
        prompts = sum(one.prompts for one in self.classes)
        rejected = sum(one.rejected for one in self.classes)
        return (
            f"Pseudo-labels, round {self.number}: {self.cases} cases in {sum(self.seconds_by_part.values()):.1f} s, "
            f"{prompts} prompts, {rejected} masks rejected, {confident} of the voxels confident{self._took()}"
        )

    def _took(self) -> str:
        """Return what each generalist took for a case, in words."""
        took = [f"{name} {seconds / self.cases:.1f} s" for name, seconds in self.seconds_by_generalist.items()]
        return f"; a case took {', '.join(took)}" if took else ""

    def generalist_cost(self, predictions: int) -> float | None:
        """Return what the generalists cost, in predictions of the network.

        Args:
            predictions: How often the network predicted each case.

        Returns:
            ``None`` if no generalist was prompted, or the network took no time.
        """
        predict = self.seconds_by_part.get("predict", 0.0) / predictions
        return sum(self.seconds_by_generalist.values()) / predict if predict and self.seconds_by_generalist else None


def summarize(number: int, epoch: int, cases: Sequence[CaseRecord]) -> RoundSummary:
    """Return the summary of a round.

    Args:
        number: Number of the round.
        epoch: Epoch of the network.
        cases: The records of its cases, with the same classes in all.
    """
    names = cases[0].names if cases else ()
    return RoundSummary(
        number=number,
        epoch=epoch,
        cases=len(cases),
        seconds_by_part=_sums(case.seconds for case in cases),
        seconds_by_generalist=_sums(case.seconds_by_generalist for case in cases),
        confident_share=_mean(case.confident_share_all for case in cases),
        cache_hit_rate=_mean(case.cache_hit for case in cases),
        classes=tuple(_class_summary(cases, index, name) for index, name in enumerate(names)),
    )


def _sums(each: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the sum over all of ``each``, name by name."""
    total: dict[str, float] = {}
    for seconds in each:
        for name, value in seconds.items():
            total[name] = total.get(name, 0.0) + value
    return total


def _class_summary(cases: Sequence[CaseRecord], index: int, name: str) -> ClassSummary:
    histograms = [case.histogram[index + 1] for case in cases]  # the first one is the background's
    return ClassSummary(
        name=name,
        agreement=_mean(case.agreement[index] for case in cases),
        confidence=_mean(case.confidence[index] for case in cases),
        confident_share=_mean(case.confident_share[index] for case in cases),
        prompts=sum(case.prompts[index] for case in cases),
        rejected=sum(case.rejected[index] for case in cases),
        empty=sum(case.empty[index] for case in cases),
        weight=cases[-1].weights[index],
        histogram=tuple(sum(voxels) for voxels in zip(*histograms, strict=True)),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return sum(known) / len(known) if known else None
