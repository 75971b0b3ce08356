"""The result of a calibration: what each generalist gains in each class, and how much it contributes from now on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nnunet_semisam.generalists.weights import GeneralistWeights
from nnunet_semisam.pseudo_labels.round_log import ClassRecord, record_from_json

EARLIER = "measured by an earlier calibration: "  # the cases of this one do not show the class
COLUMNS = ("generalist", "class", "cases", "specialist", "SAM", "fused", "weight", "temperature", "gains in")


@dataclass(frozen=True)
class CalibrationTable:
    """The result of a calibration.

    Attributes:
        generalists: Names of the generalists.
        classes: One entry per generalist and foreground class: all classes of the first, then of the second, ...
    """

    generalists: tuple[str, ...]
    classes: tuple[ClassRecord, ...]

    @property
    def weights(self) -> tuple[GeneralistWeights, ...]:
        """Return how much each generalist contributes from now on."""
        return tuple(self._weights_of(name) for name in self.generalists)

    def _weights_of(self, name: str) -> GeneralistWeights:
        mine = [entry for entry in self.classes if entry.generalist == name]
        return GeneralistWeights(
            tuple(entry.weight for entry in mine),
            tuple(entry.disagreement for entry in mine),
            tuple(entry.temperature for entry in mine),
        )

    @property
    def active(self) -> bool:
        """Return whether any generalist helps in any class."""
        return any(weights.active for weights in self.weights)

    def with_unseen_of(self, before: CalibrationTable | None) -> CalibrationTable:
        """Return the table with what was measured before of classes that none of its cases shows.

        Each calibration looks at a few labeled cases: that they lack a class says nothing of it.
        """
        if before is None:
            return self
        known = {
            (entry.generalist, entry.name): dataclasses.replace(
                entry, reason=EARLIER + entry.reason.removeprefix(EARLIER)
            )
            for entry in before.classes
            if entry.cases
        }
        classes = (entry if entry.cases else known.get((entry.generalist, entry.name), entry) for entry in self.classes)
        return dataclasses.replace(self, classes=tuple(classes))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for json and checkpoints."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> CalibrationTable:
        """Return what :meth:`to_dict` was called on."""
        classes = tuple(record_from_json(ClassRecord, entry) for entry in content["classes"])
        return cls(tuple(content["generalists"]), classes)

    def rows(self) -> list[dict[str, Any]]:
        """Return a row per generalist and class; the keys are :data:`COLUMNS`, Dice and shares in [0, 1]."""
        return [
            dict(
                zip(
                    COLUMNS,
                    (
                        entry.generalist,
                        entry.name,
                        entry.cases,
                        entry.dice_specialist,
                        entry.dice_generalist,
                        entry.dice_fused,
                        entry.weight,
                        entry.temperature,
                        entry.helped,
                    ),
                    strict=True,
                )
            )
            for entry in self.classes
        ]

    def log_text(self, names: Mapping[str, str] | None = None) -> str:
        """Return the table as Markdown: Dice with three decimals, "-" where nothing was measured.

        Args:
            names: What records call a class -> its name in ``dataset.json``; others are shown as records call them.
        """
        names = names or {}
        lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
        for row in self.rows():
            dice = ("-" if row[name] is None else f"{row[name]:.3f}" for name in COLUMNS[3:6])
            helped = "-" if row["gains in"] is None else f"{row['gains in']:.0%}"
            weight = f"{row['weight']:g}" if row["weight"] > 0 else "inactive"
            cells = (
                row["generalist"],
                names.get(row["class"], row["class"]),
                str(row["cases"]),
                *dice,
                weight,
                f"{row['temperature']:g}",
                helped,
            )
            lines.append(f"| {' | '.join(cells)} |")
        title = (
            "Calibration on labeled cases, mean Dice with a simulated generalisation error (inactive: fused gains too "
            "little on average, or in too few cases):"
        )
        return "\n".join([title, *lines])


def best_strategies(classes: Sequence[ClassRecord], model_of: Mapping[str, str]) -> tuple[ClassRecord, ...]:
    """Return the measurements with one active prompt strategy per model and class: that of the largest gain.

    Args:
        classes: Measurements of all generalists.
        model_of: Generalist -> model. The first of equals is kept.
    """
    winners: dict[tuple[str, str], ClassRecord] = {}
    for entry in classes:
        key = model_of[entry.generalist], entry.name
        if entry.weight > 0 and (key not in winners or _gain(entry) > _gain(winners[key])):
            winners[key] = entry
    return tuple(_unless_beaten(entry, winners.get((model_of[entry.generalist], entry.name))) for entry in classes)


def _gain(entry: ClassRecord) -> float:
    return entry.dice_fused - entry.dice_specialist


def _unless_beaten(entry: ClassRecord, winner: ClassRecord | None) -> ClassRecord:
    if entry.weight == 0 or entry is winner:
        return entry
    reason = f"{winner.generalist} gains more ({_gain(winner):.3f}, not {_gain(entry):.3f}); by itself, {entry.reason}"
    return dataclasses.replace(
        entry, weight=0.0, disagreement=(0.0, 0.0), dice_fused=entry.dice_specialist, reason=reason
    )
