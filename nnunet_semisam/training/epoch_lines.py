"""Lines at the end of an epoch that a person reads: what is learned, what is waited for and why, and the time."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nnunet_semisam.gate.class_gate import ClassGate
from nnunet_semisam.gate.status import class_statuses, dice_of, missing_before_start, needed_dice
from nnunet_semisam.pseudo_labels.session import PseudoLabelSession
from nnunet_semisam.training.unlabeled_pass import UnlabeledPass

RECENT_EPOCHS = 5  # that the remaining time is estimated from: the pace changes when a term begins
LEVELS = ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))


@dataclass(frozen=True)
class EpochTimes:
    """When the epochs of a training began and ended, those before an interruption included.

    Attributes:
        starts: Seconds since 1970, one per epoch.
        ends: Likewise.
    """

    starts: Sequence[float]
    ends: Sequence[float]

    @property
    def seconds(self) -> list[float]:
        """Return how long each epoch took, rounds of pseudo-labels included."""
        return [end - start for start, end in zip(self.starts, self.ends, strict=False)]

    def left(self, num_epochs: int) -> float:
        """Return the seconds that the remaining epochs take at the pace of the last ones.

        The median, so that an epoch with a round of pseudo-labels does not stand for those without: where rounds are
        rarer than every other epoch, they come on top.
        """
        recent = self.seconds[-RECENT_EPOCHS:]
        return statistics.median_low(recent) * max(0, num_epochs - len(self.seconds)) if recent else 0.0


def duration(seconds: float) -> str:
    """Return a time in the two units that matter.

    Example:
        >>> duration(7.4), duration(75), duration(7800), duration(90_000)
        ('7 s', '1 min 15 s', '2 h 10 min', '1 d 1 h')
    """
    seconds = round(seconds)
    for size, unit, small_size, small_unit in LEVELS:
        if seconds >= size:
            rest = seconds % size // small_size
            return f"{seconds // size} {unit} {rest} {small_unit}" if rest else f"{seconds // size} {unit}"
    return f"{seconds} s"


def semi_supervised_lines(
    unlabeled: UnlabeledPass,
    session: PseudoLabelSession | None,
    terms: Mapping[str, float],
    epoch: int,
    num_epochs: int,
) -> list[str]:
    """Return what is learned from unlabeled cases and, if there are generalists, what becomes of their labels.

    Args:
        unlabeled: The driver of the unlabeled terms.
        session: The rounds; ``None`` without generalists.
        terms: Means of the epoch.
        epoch: The epoch that ended.
        num_epochs: Of the training.
    """
    lines = [unlabeled_line(unlabeled, terms, (epoch + 1) / num_epochs, num_epochs)]
    if session is not None:
        lines.append(sam_line(session, unlabeled.gate, terms, epoch, num_epochs))
    return lines


def unlabeled_line(unlabeled: UnlabeledPass, terms: Mapping[str, float], progress: float, num_epochs: int) -> str:
    """Return what is learned from unlabeled cases.

    Args:
        unlabeled: The driver of the unlabeled terms.
        terms: Means of the epoch.
        progress: Fraction of the training done, in [0, 1].
        num_epochs: Of the training.
    """
    gate = unlabeled.gate
    statuses = class_statuses(gate)
    missing = missing_before_start(gate)
    if progress < unlabeled.settings.start:
        return f"Unlabeled cases: learned from epoch {math.ceil(unlabeled.settings.start * num_epochs)} on"
    if missing:
        return f"Unlabeled cases: wait for {dice_of(statuses, missing)}, need a Dice of {needed_dice(gate):.2f}"
    off = "; ".join(f"{one.name} is off ({one.reason})" for one in statuses if not one.active)
    if terms["unlabeled_weight"] == 0:
        return f"Unlabeled cases: pause; {off}" if off else "Unlabeled cases: learned from the next epoch on"
    on = ", ".join(one.name for one in statuses if one.active) or "no class"
    text = (
        f"Unlabeled cases: learn {on}; loss {terms['unlabeled_loss']:.3f}, weight {terms['unlabeled_weight']:.2g}, "
        f"mean confidence {terms['unlabeled_confidence']:.2f}"
    )
    return f"{text}; {off}" if off else text


def sam_line(
    session: PseudoLabelSession, gate: ClassGate, terms: Mapping[str, float], epoch: int, num_epochs: int
) -> str:
    """Return what becomes of SAM's pseudo-labels.

    Args:
        session: The rounds.
        gate: Knows how well the network knows its classes.
        terms: Means of the epoch.
        epoch: The epoch that ended.
        num_epochs: Of the training.
    """
    waiting = _waiting(session, gate)
    if session.current_round is None:
        if waiting:
            return f"SAM: waits for {waiting}"
        if session.next_refresh > epoch + 1:
            when = "not before" if session.seconds == 0 else "helps in no class; asked again before"
            return f"SAM: {when} epoch {session.next_refresh}"
        return f"SAM: ready; first round before epoch {epoch + 1}" if epoch + 1 < num_epochs else "SAM: never used"
    text = f"SAM: round {session.current_round} in use"
    weight = terms["pseudo_label_weight"]
    if weight > 0:
        text += (
            f"; loss {terms['pseudo_label_loss']:.3f}, weight {weight:.2g}, "
            f"{100 * terms['pseudo_label_confident']:.0f} % of the voxels confident"
        )
    if session.next_refresh >= num_epochs:
        return f"{text}; it is the last one"
    following = max(session.next_refresh, epoch + 1)
    return f"{text}; the next one {f'waits for {waiting}' if waiting else f'before epoch {following}'}"


def _waiting(session: PseudoLabelSession, gate: ClassGate) -> str:
    """Return which classes a round that is due waits for after this epoch, and what they need; empty for none."""
    unknown = [one for one in class_statuses(gate) if one.channel in session.waits_for and one.weight == 0]
    by_dice = [one.channel for one in unknown if one.dice <= gate.settings.dice]
    parts = [f"{dice_of(unknown, by_dice)}, needs {gate.settings.dice:.2f}"] if by_dice else []
    parts += [f"{one.name} ({one.reason})" for one in unknown if one.channel not in by_dice]
    return "; ".join(parts)


def time_line(times: EpochTimes, num_epochs: int, session: PseudoLabelSession | None) -> str:
    """Return the time that is left, and what the rounds of pseudo-labels cost so far.

    Args:
        times: Of the epochs so far.
        num_epochs: Of the training.
        session: The rounds; ``None`` without generalists.
    """
    spent = sum(times.seconds)
    is_last = len(times.seconds) >= num_epochs
    to_come = times.left(num_epochs)
    if session is not None and session.plan.refresh_epochs > RECENT_EPOCHS // 2:
        to_come += session.seconds_to_come(num_epochs, len(times.seconds) - 1)
    left = "" if is_last else f" so far, about {duration(to_come)} left"
    text = f"Time: {duration(spent)}{left}"
    return text if session is None else f"{text}; {stage_cost(session, spent)}"


def stage_cost(session: PseudoLabelSession, spent: float) -> str:
    """Return what the rounds of pseudo-labels cost in seconds, and what was planned in forward passes.

    The two differ: a pass of a SAM may take several times that of the network, and calibrations come on top.

    Args:
        session: The rounds.
        spent: Seconds of the training so far, rounds included.
    """
    training = spent - session.seconds
    share = (
        f", {100 * session.seconds / training:.0f} % of the training without it"
        if training > 0 and session.seconds > 0
        else ""
    )
    planned = f"planned: {100 * session.budget:.0f} % in forward passes, calibration not counted"
    return f"SAM stage {duration(session.seconds)}{share} ({planned})"
