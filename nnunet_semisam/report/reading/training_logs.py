"""What a training wrote down: the figures in nnU-Net's text logs, and our table of all terms."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_semisam.errors import UserError, printable
from nnunet_semisam.io.csv_files import read_table
from nnunet_semisam.io.regular_files import MIB, read_bytes
from nnunet_semisam.io.typed_records import LARGEST
from nnunet_semisam.report.reading.benchmark_folder import Benchmark
from nnunet_semisam.report.reading.links import refuse_link_out
from nnunet_semisam.training.training_log import CSV_NAME

Series = dict[str, list[tuple[int, float]]]
"""Name -> (epoch, value), in the order of epochs."""

TRAIN_LOSS = "train_loss"
EPOCH = re.compile(r": Epoch (\d{1,9})\s*$")
LOSS = re.compile(r": (train_loss|val_loss) (\S+)")
PSEUDO_DICE = re.compile(r": Pseudo dice \[(.*)\]")
SECONDS = re.compile(r": Epoch time: (\S+) s")
NUMPY_NUMBER = re.compile(r"np\.float\d{1,3}\(([^()]*)\)")
MOST_BYTES = 256 * MIB  # of a log
MOST_LINE = 20_000  # characters: pseudo Dice of hundreds of classes
LARGEST_EPOCH = 10**9
REMEDY = "The page can be made without it."


@dataclass(frozen=True)
class TrainingRecord:
    """What the logs of a training say.

    Attributes:
        nnunet: ``train_loss``, ``val_loss``, ``pseudo_dice`` (mean over classes) and ``epoch_seconds``.
        terms: The columns of ``semisam_log.csv``.
        problems: File -> why it, or a part of it, could not be read.
        not_finite: Name -> how many epochs have NaN or an infinite number of what should be finite.
    """

    nnunet: Series = field(default_factory=dict)
    terms: Series = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    not_finite: dict[str, int] = field(default_factory=dict)


def read_trainings(benchmark: Benchmark) -> dict[str, TrainingRecord]:
    """Return run -> what its logs say; what cannot be read is noted."""
    found = {}
    for run in benchmark.runs:
        record = read_training(benchmark.folder / run.training, benchmark.folder)
        for name, why in record.problems.items():
            benchmark.damage.note("logs of trainings", f"{name} of {run.name}", why)
        found[run.name] = record
    return found


def read_training(folder: Path, root: Path | None = None) -> TrainingRecord:
    """Return what the logs in nnU-Net's output folder say; empty where there is none.

    Args:
        folder: Of the training.
        root: Folder that no log may be a link out of.
    """
    problems: dict[str, str] = {}
    terms: Series = {}
    try:
        terms = read_terms(folder, problems, root)
    except UserError as error:
        problems[CSV_NAME] = str(error)
    reader = _read_nnunet_logs(folder, problems, root)
    nnunet = {name: sorted(values.items()) for name, values in reader.values.items()}
    return TrainingRecord(nnunet, terms, problems, reader.not_finite)


def read_terms(folder: Path, problems: dict[str, str], root: Path | None = None) -> Series:
    """Return the columns of ``semisam_log.csv``; empty cells and those that are not finite are left out.

    Args:
        folder: Of the training.
        problems: Gets an entry if rows cannot be read.
        root: Folder that it may not be a link out of.

    Raises:
        UserError: If the file cannot be read.
    """
    path = folder / CSV_NAME
    refuse_link_out(path, root or folder)
    if not path.exists() and not path.is_symlink():
        return {}
    found: Series = {}
    damaged: list[str] = []
    for row in read_table(path, ["epoch"], REMEDY, damaged):
        try:
            epoch, values = _row_of_terms(row)
        except ValueError as error:
            damaged.append(str(error))
            continue
        for name, value in values.items():
            found.setdefault(name, []).append((epoch, value))
    if damaged:
        problems[CSV_NAME] = f"{len(damaged)} of its rows, first {printable(damaged[0], 150)}"
    return found


def _row_of_terms(row: Mapping[str, str]) -> tuple[int, dict[str, float]]:
    """Return the epoch and the finite numbers of a row.

    Raises:
        ValueError: If a cell is no number, or the epoch is none.
    """
    epoch = float(row["epoch"])
    if not (0 <= epoch <= LARGEST_EPOCH and epoch == int(epoch)):
        raise ValueError(f"the epoch {row['epoch']}")
    numbers = {name: float(text) for name, text in row.items() if text and name != "epoch"}
    return int(epoch), {name: value for name, value in numbers.items() if abs(value) <= LARGEST}


def _read_nnunet_logs(folder: Path, problems: dict[str, str], root: Path | None) -> _Reader:
    """Read the figures in nnU-Net's logs; what a resumed training repeats replaces what was said before."""
    reader = _Reader()
    for path in sorted(folder.glob("training_log_*.txt")):  # one per start; names hold the time
        reader.epoch = None
        try:
            refuse_link_out(path, root or folder)
            text = read_bytes(path, REMEDY, MOST_BYTES).decode("utf-8", errors="replace")
        except UserError as error:
            problems[path.name] = str(error)
            continue
        for line in text.splitlines():
            reader.take(line[:MOST_LINE])
    return reader


class _Reader:
    """Reads log lines in their order."""

    def __init__(self) -> None:
        self.epoch: int | None = None  # of this start
        self.values: dict[str, dict[int, float]] = {}
        self._not_finite: dict[str, set[int]] = {}  # epochs; a later start that repeats one replaces what was said

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
        if self.epoch is None:
            return
        if abs(value) <= LARGEST:
            self.values.setdefault(name, {})[self.epoch] = value
            self._not_finite.get(name, set()).discard(self.epoch)
        elif name == TRAIN_LOSS:  # others are NaN where there is nothing to measure
            self._not_finite.setdefault(name, set()).add(self.epoch)
            self.values.get(name, {}).pop(self.epoch, None)

    @property
    def not_finite(self) -> dict[str, int]:
        """Return by name in how many epochs a figure that should be finite is not; only names that have such."""
        return {name: len(epochs) for name, epochs in self._not_finite.items() if epochs}


def _mean_of_list(text: str) -> str:
    """Return the mean of the numbers in a printed list, NaN left out."""
    known = []
    for part in NUMPY_NUMBER.sub(r"\1", text).split(","):
        with contextlib.suppress(ValueError):
            known.append(float(part))
    known = [value for value in known if math.isfinite(value)]
    return str(sum(known) / len(known)) if known else "nan"
