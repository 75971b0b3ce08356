"""What a training wrote down: nnU-Net's text logs, and our table of all terms."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunet_semisam.training.training_log import CSV_NAME

Series = dict[str, list[tuple[int, float]]]

EPOCH = re.compile(r": Epoch (\d+)\s*$")
TERM = re.compile(r": (train_loss|val_loss) (\S+)")
PSEUDO_DICE = re.compile(r": Pseudo dice \[(.*)\]")
SECONDS = re.compile(r": Epoch time: (\S+) s")
NUMBER = re.compile(r"(?<![\w.])(-?\d+\.?\d*(?:e-?\d+)?|nan)(?![\w.])")
ROUND = re.compile(r"SAM round (\d+) \(network of epoch (\d+)\): (\d+) cases in ([\d.]+) s")
ROUND_CLASS = re.compile(
    r"^  class (\S+): (\d+) prompts, (\d+) collapsed \((\d+) empty\), network/SAM Dice (\S+), mean trust (\S+), "
    r"trusted (\S+)"
)
VERDICT = re.compile(r"^  class (\S+): SAM is (?:on with weight (\S+)|OFF): (.*?)\s*$")


@dataclass(frozen=True)
class SamRound:
    """A round of pseudo-labels: class -> prompts, collapsed, agreement (network/SAM Dice) and trust in [0, 1]."""

    index: int
    epoch: int
    cases: int
    seconds: float
    classes: dict[str, dict[str, float | None]] = field(default_factory=dict)


@dataclass
class TrainingRecord:
    """What the logs of a training say.

    Attributes:
        nnunet: Name -> (epoch, value): ``train_loss``, ``val_loss``, ``pseudo_dice`` (mean) and ``epoch_seconds``.
        terms: The columns of ``semisam_log.csv``, likewise.
        rounds: Rounds of the SAM stage.
        calibrations: Epoch before which SAM was measured, and class -> ``weight`` (0: off) and ``reason``.
    """

    nnunet: Series = field(default_factory=dict)
    terms: Series = field(default_factory=dict)
    rounds: list[SamRound] = field(default_factory=list)
    calibrations: list[tuple[int, dict[str, dict[str, Any]]]] = field(default_factory=list)


def read_training(folder: Path) -> TrainingRecord:
    """Return what the logs in nnU-Net's output folder say; empty where there is none."""
    record = TrainingRecord(terms=read_terms(folder / CSV_NAME))
    reader = _Reader(record)
    for path in sorted(folder.glob("training_log_*.txt")):  # one per start; names hold the time
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            reader.take(line)
        reader.end_start()
    record.nnunet = {name: sorted(values.items()) for name, values in reader.values.items()}
    record.rounds.sort(key=lambda one: one.index)
    return record


def read_terms(path: Path) -> Series:
    """Return column -> (epoch, value) of ``semisam_log.csv``; empty cells are left out."""
    if not path.is_file():
        return {}
    found: Series = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            epoch = int(float(row.pop("epoch")))
            for name, text in row.items():
                if text and math.isfinite(value := float(text)):
                    found.setdefault(name, []).append((epoch, value))
    return found


class _Reader:
    """Reads log lines in their order. What a resumed training repeats replaces what it said before."""

    def __init__(self, record: TrainingRecord) -> None:
        self.record = record
        self.epoch: int | None = None  # of this start; a resumed one says it only after it has measured SAM again
        self.values: dict[str, dict[int, float]] = {}
        self.calibration: dict[str, dict[str, Any]] | None = None

    def take(self, line: str) -> None:
        if match := EPOCH.search(line):
            self.epoch = int(match[1])
            self._place_calibration(self.epoch)
        elif match := TERM.search(line):
            self._add(match[1], match[2])
        elif match := PSEUDO_DICE.search(line):
            inner = re.sub(r"np\.float\d+\(([^)]*)\)", r"\1", match[1])
            values = [float(text) for text in NUMBER.findall(inner)]
            known = [value for value in values if math.isfinite(value)]
            self._add("pseudo_dice", str(sum(known) / len(known)) if known else "nan")
        elif match := SECONDS.search(line):
            self._add("epoch_seconds", match[1])
        else:
            self._take_sam(line)

    def end_start(self) -> None:
        """End the log of one start. What it measured before it knew its epoch is measured again by the next."""
        if self.epoch is not None:
            self._place_calibration(self.epoch + 1)
        self.epoch, self.calibration = None, None

    def _place_calibration(self, epoch: int) -> None:
        """Put what was just measured before an epoch, in place of what an earlier start measured there or later."""
        if self.calibration is not None:
            self.record.calibrations[:] = [one for one in self.record.calibrations if one[0] < epoch]
            self.record.calibrations.append((epoch, self.calibration))
            self.calibration = None

    def _add(self, name: str, text: str) -> None:
        try:
            value = float(text)
        except ValueError:  # a line that another process tore
            return
        if math.isfinite(value) and self.epoch is not None:
            self.values.setdefault(name, {})[self.epoch] = value

    def _take_sam(self, line: str) -> None:
        record = self.record
        if match := ROUND.search(line):
            index = int(match[1])
            record.rounds[:] = [one for one in record.rounds if one.index < index]
            record.rounds.append(SamRound(index, int(match[2]), int(match[3]), float(match[4])))
        elif "SAM calibration on labeled cases:" in line:
            self.calibration = {}
        elif (match := VERDICT.match(line)) and self.calibration is not None:
            self.calibration[match[1]] = {"weight": float(match[2] or 0), "reason": match[3]}
        elif (match := ROUND_CLASS.match(line)) and record.rounds:
            record.rounds[-1].classes[match[1]] = {
                "prompts": int(match[2]),
                "collapsed": int(match[3]),
                "empty": int(match[4]),
                "agreement": _optional(match[5]),
                "trust": _optional(match[6]),
            }


def _optional(text: str) -> float | None:
    return None if text.rstrip(",") == "-" else float(text.rstrip(","))
