"""What a training was, in a few lines at its end: when each term began, which classes were on, what SAM gave and cost.

It is made of what was written down epoch by epoch, so that an interrupted training is told as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nnunet_semisam.gate.class_gate import ClassGate
from nnunet_semisam.gate.status import needed_dice
from nnunet_semisam.pseudo_labels import round_log
from nnunet_semisam.pseudo_labels.round_log import CaseRecord, RoundLog
from nnunet_semisam.pseudo_labels.round_summary import summarize
from nnunet_semisam.pseudo_labels.session import PseudoLabelSession
from nnunet_semisam.training.epoch_lines import duration, stage_cost

Row = Mapping[str, float]
MOST_SPANS = 3


@dataclass(frozen=True)
class TrainingRecord:
    """What is known of a training at its end.

    Attributes:
        rows: One per epoch, as in ``semisam_log.csv``.
        seconds: Of all epochs together.
        rounds: What was recorded of the rounds of pseudo-labels; ``None`` without generalists.
        stage_cost: What the rounds cost, in words.
    """

    rows: Sequence[Row]
    seconds: float
    rounds: RoundLog | None = None
    stage_cost: str = ""

    @classmethod
    def at_end(cls, rows: Sequence[Row], seconds: float, session: PseudoLabelSession | None) -> TrainingRecord:
        """Return the record of a training that has just ended.

        Args:
            rows: As above.
            seconds: As above.
            session: Its rounds; ``None`` without generalists.
        """
        if session is None:
            return cls(rows, seconds)
        return cls(rows, seconds, round_log.read(session.context.output_folder), stage_cost(session, seconds))


def summary_lines(method: str, gate: ClassGate | None, record: TrainingRecord) -> list[str]:
    """Return the summary of a training, as lines.

    Args:
        method: Its name.
        gate: Knows the classes, and which Dice they needed; ``None`` of a method that opens no unlabeled case.
        record: What was written down.
    """
    return supervised_summary(method, record) if gate is None else training_summary(gate, record)


def supervised_summary(method: str, record: TrainingRecord) -> list[str]:
    """Return the summary of a training whose method opens no unlabeled case."""
    return [
        "Summary of this training",
        f"  {duration(record.seconds)}. This was a supervised training: the method {method!r} opens no unlabeled case.",
    ]


def training_summary(gate: ClassGate, record: TrainingRecord) -> list[str]:
    """Return the summary of a training with unlabeled cases, as lines.

    Args:
        gate: Knows the classes, and which Dice they needed.
        record: What was written down.
    """
    rows = record.rows
    unlabeled = [row for row in rows if row.get("unlabeled_weight", 0.0) > 0]
    pseudo = [row for row in rows if row.get("pseudo_label_weight", 0.0) > 0]
    lines = ["Summary of this training", f"  {duration(record.seconds)}, {len(rows)} epochs."]
    if not unlabeled and not pseudo:
        lines.append(
            "  This was a supervised training: nothing was learned from unlabeled cases, "
            f"{_why_never(gate, rows)}. A longer training, more labels or a lower setting gate.dice may change that."
        )
    else:
        lines.append(f"  Unlabeled terms: {_began(unlabeled, rows)}")
    if record.rounds is not None:
        lines.append(f"  SAM's pseudo-labels: {_began(pseudo, rows)}")
        lines += _rounds(record.rounds, gate)
        lines.append(f"  {record.stage_cost}")
    return lines + [f"  {line}" for line in _classes(gate, rows)]


def _began(active: Sequence[Row], rows: Sequence[Row]) -> str:
    if not active:
        return "never used"
    return f"from epoch {active[0]['epoch']:g} on, in {len(active)} of {len(rows)} epochs"


def _why_never(gate: ClassGate, rows: Sequence[Row]) -> str:
    """Return which classes never became active, with the best Dice of each."""
    first = gate.labels.first_foreground
    never = [
        f"{name} ({max((row.get(f'labeled_dice_{f + first}', 0.0) for row in rows), default=0.0):.2f})"
        for f, name in enumerate(gate.labels.class_names)
        if f + first not in gate.found and f + first not in gate.left_out
    ]
    if not never:
        return "though every class was known well enough once"
    return f"because {', '.join(never)} never reached the Dice of {needed_dice(gate):.2f} on labeled patches"


def _classes(gate: ClassGate, rows: Sequence[Row]) -> list[str]:
    """Return a line per class: when it was on, and how well it is known at the end."""
    lines = []
    for f, name in enumerate(gate.labels.class_names):
        k = f + gate.labels.first_foreground
        on = [int(row["epoch"]) for row in rows if row.get(f"class_weight_{k}", 0.0) >= gate.settings.active_from]
        when = "never on" if not on else f"on in {_spans(on, len(rows))}"
        last = rows[-1] if rows else {}
        lines.append(
            f"{name}: {when}; at the end Dice {last.get(f'labeled_dice_{k}', 0.0):.2f} on labeled patches, class "
            f"weight {last.get(f'class_weight_{k}', 0.0):.2f}"
        )
    return lines


def _spans(epochs: Sequence[int], total: int) -> str:
    """Return epochs as spans, ``epochs 3-7 and 9-11``, or, where there are many, how many and the first.

    Args:
        epochs: Ascending, at least one.
        total: Epochs of the training.
    """
    starts = [epoch for i, epoch in enumerate(epochs) if i == 0 or epoch != epochs[i - 1] + 1]
    ends = [epoch for i, epoch in enumerate(epochs) if i + 1 == len(epochs) or epoch + 1 != epochs[i + 1]]
    if len(starts) > MOST_SPANS:
        return f"{len(epochs)} of {total} epochs, first in {epochs[0]}"
    spans = [str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True)]
    return f"epoch {spans[0]}" if len(epochs) == 1 else f"epochs {' and '.join(spans)}"


def _rounds(log: RoundLog, gate: ClassGate) -> list[str]:
    """Return lines on the rounds: how many, and per class what SAM was given to say and how sure the labels are."""
    made = [record for record in log.rounds if record.active]
    if not made:
        return (
            [f"    {_count(len(log.rounds), 'round')}, none with labels: SAM helped in no class"] if log.rounds else []
        )
    last = made[-1]
    summary = summarize(last.round, last.epoch, _cases(log, last.round))
    lines = [
        f"    {_count(len(made), 'round')}, the first before epoch {made[0].epoch}, the last before {last.epoch}; "
        f"{_count(len({case.case for case in log.cases}), 'case')} with a label"
    ]
    names = dict(zip(gate.labels.names, gate.labels.class_names, strict=True))
    for one in summary.classes:
        confidence = "no voxels" if one.confidence is None else f"mean confidence {one.confidence:.2f}"
        share = f"SAM's weight {one.weight:.2g}" if one.weight > 0 else "SAM does not help, the network's alone"
        lines.append(f"    {names.get(one.name, one.name)} in the last round: {share}, {confidence}")
    return lines


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _cases(log: RoundLog, round_index: int) -> list[CaseRecord]:
    return [case for case in log.cases if case.round == round_index]
