"""What a training wrote down: the figures in nnU-Net's text logs, and our table of all terms."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_semisam.training.training_log import CSV_NAME

Series = dict[str, list[tuple[int, float]]]
"""Name -> (epoch, value), in the order of epochs."""

EPOCH = re.compile(r": Epoch (\d+)\s*$")
LOSS = re.compile(r": (train_loss|val_loss) (\S+)")
PSEUDO_DICE = re.compile(r": Pseudo dice \[(.*)\]")
SECONDS = re.compile(r": Epoch time: (\S+) s")
NUMPY_NUMBER = re.compile(r"np\.float\d+\(([^)]*)\)")
NUMBER = re.compile(r"(?<![\w.])(-?\d+\.?\d*(?:e-?\d+)?|nan)(?![\w.])")


@dataclass(frozen=True)
class TrainingRecord:
    """What the logs of a training say.

    Attributes:
        nnunet: ``train_loss``, ``val_loss``, ``pseudo_dice`` (mean over classes) and ``epoch_seconds``.
        terms: The columns of ``semisam_log.csv``.
    """

    nnunet: Series = field(default_factory=dict)
    terms: Series = field(default_factory=dict)


def read_training(folder: Path) -> TrainingRecord:
    """Return what the logs in nnU-Net's output folder say; empty where there is none."""
    return TrainingRecord(read_nnunet_logs(folder), read_terms(folder))


def read_terms(folder: Path) -> Series:
    """Return the columns of ``semisam_log.csv``; empty cells are left out."""
    path = folder / CSV_NAME
    if not path.is_file():
        return {}
    found: Series = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            epoch = int(float(row.pop("epoch")))
            for name, text in row.items():
                value = float(text) if text else math.nan
                if math.isfinite(value):
                    found.setdefault(name, []).append((epoch, value))
    return found


def read_nnunet_logs(folder: Path) -> Series:
    """Return the figures in nnU-Net's logs; what a resumed training repeats replaces what was said before."""
    reader = _Reader()
    for path in sorted(folder.glob("training_log_*.txt")):  # one per start; names hold the time
        reader.epoch = None
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            reader.take(line)
    return {name: sorted(values.items()) for name, values in reader.values.items()}


class _Reader:
    """Reads log lines in their order."""

    def __init__(self) -> None:
        self.epoch: int | None = None  # of this start
        self.values: dict[str, dict[int, float]] = {}

    def take(self, line: str) -> None:
        if match := EPOCH.search(line):
            self.epoch = int(match[1])
        elif match := LOSS.search(line):
            self._add(match[1], match[2])
        elif match := PSEUDO_DICE.search(line):
            self._add("pseudo_dice", _mean_of_list(match[1]))
        elif match := SECONDS.search(line):
            self._add("epoch_seconds", match[1])

    def _add(self, name: str, text: str) -> None:
        try:
            value = float(text)
        except ValueError:  # a line that another process tore
            return
        if math.isfinite(value) and self.epoch is not None:
            self.values.setdefault(name, {})[self.epoch] = value


def _mean_of_list(text: str) -> str:
    """Return the mean of the numbers in a printed list, NaN left out."""
    plain = NUMPY_NUMBER.sub(r"\1", text)
    values = [float(number) for number in NUMBER.findall(plain)]
    known = [value for value in values if math.isfinite(value)]
    return str(sum(known) / len(known)) if known else "nan"
