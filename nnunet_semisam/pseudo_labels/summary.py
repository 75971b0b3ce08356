"""What a round of the stage did, in figures: per case for the provenance, per round for the log.

Shapes in this file: ``F`` foreground classes or regions, ``*S`` spatial axes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnunet_semisam.generalists.prediction import AskCounts, SAMOpinion
from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels.fusion import FusedLabel


@dataclass(frozen=True)
class RoundSummary:
    """Figures of a round over the cases it refreshed. Lists have one entry per foreground class or region.

    Attributes:
        round_index: Number of the round.
        epoch: Epoch of the network whose opinion was taken.
        cases: How many cases were refreshed.
        names: Names of the classes.
        agreement: Mean Dice between network and SAM where SAM answered; ``None`` where it never did.
        trust: Mean trust in the voxels of the class; ``None`` where no case shows it.
        trusted_share: Share of the class's voxels that pass the trust threshold; ``None`` likewise.
        prompts: How many components SAM was asked about.
        collapsed: How many answers were out of all proportion, empty ones included.
        empty: How many answers were empty.
        trusted_share_all: Share of all voxels that pass the threshold.
        seconds: Time by part of the work: load, predict, encode, decode, fuse.
        cache_hit_rate: Share of the needed embeddings that were cached; ``None`` if none was needed.
    """

    round_index: int
    epoch: int
    cases: int
    names: list[str]
    agreement: list[float | None]
    trust: list[float | None]
    trusted_share: list[float | None]
    prompts: list[int]
    collapsed: list[int]
    empty: list[int]
    trusted_share_all: float | None
    seconds: dict[str, float]
    cache_hit_rate: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for json."""
        return dataclasses.asdict(self)

    def log_text(self) -> str:
        """Return a line for the round and one for each class."""
        total = sum(self.seconds.values())
        parts = ", ".join(f"{name} {value:.1f}" for name, value in self.seconds.items())
        lines = [
            f"SAM round {self.round_index} (network of epoch {self.epoch}): {self.cases} cases in {total:.1f} s "
            f"({parts}); trusted voxels {_percent(self.trusted_share_all)}, cached {_percent(self.cache_hit_rate)}"
        ]
        for f, name in enumerate(self.names):
            lines.append(
                f"  class {name}: {self.prompts[f]} prompts, {self.collapsed[f]} collapsed ({self.empty[f]} empty), "
                f"network/SAM Dice {_number(self.agreement[f])}, mean trust {_number(self.trust[f])}, "
                f"trusted {_percent(self.trusted_share[f])}"
            )
        return "\n".join(lines)


def case_stats(
    network: np.ndarray,
    opinion: SAMOpinion,
    fused: FusedLabel,
    counts: AskCounts,
    layout: Labels,
    trust_threshold: float,
) -> dict[str, Any]:
    """Return the figures of one case, plain values.

    Args:
        network: The network's probabilities, ``(K, *S)``.
        opinion: The SAM's, with arrays ``(F, *S)``.
        fused: The resulting pseudo-label.
        counts: How the asking went.
        layout: Which channel means what.
        trust_threshold: Trust from which a voxel is used in the loss.
    """
    own = layout.label_map(layout.foreground(network))
    agreement, trust, trusted = [], [], []
    for f in range(layout.channels):
        asked = opinion.asked[f]
        agreement.append(dice(layout.members(own, f) & asked, (opinion.probs[f] > 0.5) & asked))
        mine = fused.trust[layout.members(fused.label, f)]
        trust.append(float(mine.mean()) if mine.size else None)
        trusted.append(float((mine >= trust_threshold).mean()) if mine.size else None)
    return {
        "agreement": agreement,
        "trust": trust,
        "trusted_share": trusted,
        "trusted_share_all": float((fused.trust >= trust_threshold).mean()),
        **{name: list(values) for name, values in vars(counts).items()},
    }


def summarize(round_index: int, epoch: int, names: Sequence[str], stats: Sequence[Mapping[str, Any]]) -> RoundSummary:
    """Return the summary of the cases' ``stats``, each of :func:`case_stats` plus ``seconds`` and ``cache_hit``."""
    hits = [s["cache_hit"] for s in stats if s["cache_hit"] is not None]
    parts = {name: sum(s["seconds"][name] for s in stats) for name in (stats[0]["seconds"] if stats else ())}

    def over_cases(key: str) -> list[list]:
        return [[s[key][f] for s in stats] for f in range(len(names))]

    return RoundSummary(
        round_index=round_index,
        epoch=epoch,
        cases=len(stats),
        names=list(names),
        agreement=[_mean(values) for values in over_cases("agreement")],
        trust=[_mean(values) for values in over_cases("trust")],
        trusted_share=[_mean(values) for values in over_cases("trusted_share")],
        prompts=[sum(values) for values in over_cases("prompts")],
        collapsed=[sum(values) for values in over_cases("collapsed")],
        empty=[sum(values) for values in over_cases("empty")],
        trusted_share_all=_mean([s["trusted_share_all"] for s in stats]),
        seconds=parts,
        cache_hit_rate=_mean(hits),
    )


def dice(first: np.ndarray, second: np.ndarray) -> float | None:
    """Return the Dice coefficient of two masks in [0, 1]; ``None`` if both are empty: then it is not defined."""
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"
