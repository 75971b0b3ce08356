"""What the gate says of each class, in words: which are active, and what the others lack."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from nnunet_semisam.gate.class_gate import ClassGate


@dataclass(frozen=True)
class ClassStatus:
    """One foreground class or region.

    Attributes:
        name: Its name in ``dataset.json``.
        channel: Its output channel.
        dice: Dice of the prompting network on labeled training patches, in [0, 1].
        weight: Class weight in unlabeled terms, in [0, 1].
        active: Whether the class is learned from unlabeled cases, once these are used at all.
        reason: What an inactive class lacks; empty for an active one.
    """

    name: str
    channel: int
    dice: float
    weight: float
    active: bool
    reason: str


def needed_dice(gate: ClassGate) -> float:
    """Return the Dice from which a class is active."""
    settings = gate.settings
    return settings.dice + settings.active_from * settings.width if settings.dice > 0 else 0.0


def class_statuses(gate: ClassGate) -> list[ClassStatus]:
    """Return the status of every foreground class or region, in the order of the output channels.

    Example:
        >>> import torch
        >>> from nnunet_semisam.gate.settings import GateSettings
        >>> from nnunet_semisam.labels import Labels
        >>> gate = ClassGate(GateSettings(), Labels.of_classes(3))
        >>> label = torch.eye(3).view(1, 3, 3)  # (B, K, X): a voxel of each class
        >>> gate.labeled_dice.measure(label[:, [0, 1, 0]], label)  # the network misses class 2
        >>> [(one.name, one.active, one.reason) for one in class_statuses(gate)]
        [('1', True, ''), ('2', False, 'Dice 0.00, needs 0.75')]
    """
    weights, dice = gate.class_weights(), gate.labeled_dice.dice()
    statuses = []
    for f, name in enumerate(gate.labels.class_names):
        k = f + gate.labels.first_foreground
        active = bool(weights[k] >= gate.settings.active_from)
        reason = "" if active else _reason(gate, k)
        statuses.append(ClassStatus(name, k, float(dice[k]), float(weights[k]), active, reason))
    return statuses


def _reason(gate: ClassGate, channel: int) -> str:
    if channel in gate.left_out:
        return "no labeled case shows it"
    parts = {
        f"Dice {float(gate.labeled_dice.dice()[channel]):.2f}, needs {needed_dice(gate):.2f}": gate.dice_weights(),
        "it takes a share of the image that labeled cases do not have": gate.area.class_weights(),
        "student and target agree less than they did": gate.agreement_weights(),
    }
    return min(parts, key=lambda text: float(parts[text][channel]))


def missing_before_start(gate: ClassGate) -> list[int]:
    """Return the channels that unlabeled terms wait for: never active so far. Empty once the gate has started."""
    if gate.started:
        return []
    return [k for k in gate.waited_for() if k not in gate.found]


def dice_of(statuses: Iterable[ClassStatus], channels: Collection[int]) -> str:
    """Return the names of some classes with their Dice in brackets, ``RV (0.14), LV (0.55)``."""
    return ", ".join(f"{one.name} ({one.dice:.2f})" for one in statuses if one.channel in channels)
