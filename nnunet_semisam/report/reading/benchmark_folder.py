"""What ``nnunet-semisam benchmark`` left in a folder, ready to be shown."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nnunet_semisam.benchmark.metrics import MEAN, UNITS
from nnunet_semisam.errors import UserError

FORMAT = 1


@dataclass(frozen=True)
class Benchmark:
    """The results of a benchmark; formats are those of :mod:`nnunet_semisam.benchmark.results`.

    Attributes:
        folder: Where it lies; paths in ``content`` are relative to it.
        content: ``results.json``.
        rows: ``results.csv``, with numbers where there are numbers and ``None`` where a field is empty.
    """

    folder: Path
    content: dict[str, Any]
    rows: list[dict[str, Any]]

    @property
    def study(self) -> dict[str, Any]:
        """Return the grid and what all runs share."""
        return self.content["study"]

    @property
    def baseline(self) -> str:
        """Return the class name of the baseline."""
        return self.content["baseline"]

    @property
    def runs(self) -> list[dict[str, Any]]:
        """Return what is known of every run."""
        return self.content["runs"]

    @cached_property
    def trainers(self) -> list[str]:
        """Return class names, the baseline first."""
        return sorted(self.study["trainers"], key=lambda name: name != self.baseline)

    @cached_property
    def budgets(self) -> list[int]:
        """Return the label budgets, ascending."""
        return sorted({run["budget"] for run in self.runs})

    @cached_property
    def labels(self) -> list[str]:
        """Return the names of labels and regions, without the mean."""
        return [name for name in dict.fromkeys(row["label"] for row in self.rows) if name != MEAN]

    @cached_property
    def units(self) -> dict[str, str]:
        """Return metric -> unit: of volumes, or of 2D images."""
        return UNITS | {row["metric"]: row["unit"] for row in self.rows if "unit" in row}

    @cached_property
    def _cells(self) -> dict[tuple, dict[str, Any]]:
        keys = ("configuration", "budget", "trainer", "label", "metric")
        return {tuple(cell[key] for key in keys): cell for cell in self.content["summary"]}

    def cell(self, configuration: str, budget: int, trainer: str, label: str, metric: str) -> dict[str, Any] | None:
        """Return the summary of a cell of the grid; ``None`` if no run of it is done."""
        return self._cells.get((configuration, budget, trainer, label, metric))

    def grid(self) -> Iterator[tuple[str, int, str]]:
        """Yield configuration, budget and trainer of every cell that has a result."""
        for configuration in self.study["configurations"]:
            for budget in self.budgets:
                for trainer in self.trainers:
                    if self.cell(configuration, budget, trainer, MEAN, "dice"):
                        yield configuration, budget, trainer

    def short(self, trainer: str) -> str:
        """Return what a trainer is called in figures and tables."""
        return "nnU-Net" if trainer == self.baseline else trainer.removeprefix("nnUNetTrainer")

    @cached_property
    def scores(self) -> dict[str, dict[str, dict[tuple[str, str], dict[str, Any]]]]:
        """Return run -> case -> (label, metric) -> row."""
        found: dict[str, dict[str, dict[tuple[str, str], dict[str, Any]]]] = {}
        for row in self.rows:
            found.setdefault(row["run"], {}).setdefault(row["case"], {})[row["label"], row["metric"]] = row
        return found


def read_benchmark(folder: Path) -> Benchmark:
    """Read a benchmark.

    Raises:
        UserError: If the folder holds no results, or results of another format.
    """
    path = folder / "results.json"
    if not path.is_file():
        raise UserError(
            f"{folder} holds no results.json. Name the folder of a benchmark (its --out); nnunet-semisam benchmark "
            "writes the file before its first run, and anew after every run."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise UserError(
                f"{path} has format {content['format']}, this version reads {FORMAT}. Start the benchmark once more "
                "with this version: what is done is kept, and the file is written anew."
            )
        rows = _read_rows(folder / "results.csv")
        _require(content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"The results in {folder} cannot be read ({error!r}). Start the benchmark once more: it keeps what is done "
            "and writes results.json and results.csv anew."
        ) from error
    return Benchmark(folder.resolve(), content, rows)


def _require(content: Mapping[str, Any]) -> None:
    for name in ("study", "baseline", "versions", "cases", "runs", "summary"):
        content[name]


def _read_rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    for row in rows:
        for name in ("budget", "fold", "seed"):
            row[name] = int(row[name])
        for name in ("value", "scored"):
            row[name] = float(row[name]) if row[name] else None
    return rows
