"""What ``nnunet-semisam benchmark`` left in a folder, ready to be shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nnunet_semisam.benchmark.metrics import UNITS
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.json_files import read_object
from nnunet_semisam.report.reading.records import (
    MEAN,
    HeldOutCases,
    RunResult,
    Score,
    Study,
    Summary,
    TrainerCost,
)
from nnunet_semisam.report.reading.results_files import (
    parse_cost,
    parse_held_out,
    parse_run,
    parse_study,
    parse_summary,
    read_scores,
)

FORMAT = 1

CaseScores = Mapping[tuple[str, str], Score]
"""(Label, metric) -> score, of one case of one run."""


@dataclass(frozen=True)
class GridCell:
    """A place in the grid of a benchmark.

    Attributes:
        configuration: For example ``2d``.
        budget: Number of labeled groups (patients).
        trainer: Class name.
    """

    configuration: str
    budget: int
    trainer: str

    def holds(self, run: RunResult) -> bool:
        """Return whether a run belongs here, whatever its fold and seed."""
        return (run.configuration, run.budget, run.trainer) == (self.configuration, self.budget, self.trainer)


@dataclass(frozen=True)
class Benchmark:
    """The results of a benchmark.

    Attributes:
        folder: Where it lies; paths in records are relative to it.
        study: The grid, and what all runs share.
        baseline: Class name of the baseline.
        versions: Of python and packages, when the results were written.
        held_out: The cases that judge the runs.
        runs: All runs, in the order of the grid.
        costs: Hours of each trainer.
        summaries: Means, intervals and differences.
        scores: The rows of ``results.csv``.
    """

    folder: Path
    study: Study
    baseline: str
    versions: Mapping[str, str]
    held_out: HeldOutCases
    runs: tuple[RunResult, ...]
    costs: tuple[TrainerCost, ...]
    summaries: tuple[Summary, ...]
    scores: tuple[Score, ...]

    @cached_property
    def trainers(self) -> list[str]:
        """Return class names, the baseline first."""
        return sorted(self.study.trainers, key=lambda name: name != self.baseline)

    @cached_property
    def budgets(self) -> list[int]:
        """Return the label budgets, ascending."""
        return sorted({run.budget for run in self.runs})

    @cached_property
    def labels(self) -> list[str]:
        """Return the names of labels and regions, without the mean."""
        names = dict.fromkeys(score.label for score in self.scores)
        return [name for name in names if name != MEAN]

    @cached_property
    def units(self) -> dict[str, str]:
        """Return metric -> unit: of volumes, or of 2D images."""
        found = dict(UNITS)
        for score in self.scores:
            found[score.metric] = score.unit
        return found

    @property
    def num_cases(self) -> int:
        """Return how many held-out cases judge the runs."""
        return len(self.held_out.groups)

    @property
    def num_patients(self) -> int:
        """Return how many groups (patients) these are."""
        return len(set(self.held_out.groups.values()))

    @cached_property
    def _summaries(self) -> dict[tuple[GridCell, str, str], Summary]:
        found = {}
        for summary in self.summaries:
            cell = GridCell(summary.configuration, summary.budget, summary.trainer)
            found[cell, summary.label, summary.metric] = summary
        return found

    def summary(self, cell: GridCell, label: str = MEAN, metric: str = "dice") -> Summary | None:
        """Return the summary of a cell of the grid; ``None`` if no run of it is done."""
        return self._summaries.get((cell, label, metric))

    def baseline_summary(self, cell: GridCell, label: str = MEAN, metric: str = "dice") -> Summary | None:
        """Return the baseline's summary with the configuration and budget of a cell; ``None`` if no run is done."""
        return self.summary(GridCell(cell.configuration, cell.budget, self.baseline), label, metric)

    def grid(self) -> Iterator[GridCell]:
        """Yield every cell of the grid that has a result."""
        for configuration in self.study.configurations:
            for budget in self.budgets:
                for trainer in self.trainers:
                    cell = GridCell(configuration, budget, trainer)
                    if self.summary(cell) is not None:
                        yield cell

    def short(self, trainer: str) -> str:
        """Return what a trainer is called in figures and tables."""
        return "nnU-Net" if trainer == self.baseline else trainer.removeprefix("nnUNetTrainer")

    @cached_property
    def scores_by_run(self) -> dict[str, dict[str, CaseScores]]:
        """Return run -> case -> its scores."""
        found: dict[str, dict[str, dict[tuple[str, str], Score]]] = {}
        for score in self.scores:
            cases = found.setdefault(score.run, {})
            cases.setdefault(score.case, {})[score.label, score.metric] = score
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
            "writes the file before its first run, and again after every run."
        )
    remedy = "Start the benchmark once more: it keeps what is done and writes results.json and results.csv again."
    content = read_object(path, remedy)
    if content.get("format") != FORMAT:
        raise UserError(f"{path} has format {content.get('format')}, this version reads {FORMAT}. {remedy}")
    try:
        return Benchmark(
            folder=folder.resolve(),
            study=parse_study(content["study"]),
            baseline=content["baseline"],
            versions=dict(content["versions"]),
            held_out=parse_held_out(content["cases"]),
            runs=tuple(parse_run(run) for run in content["runs"]),
            costs=tuple(parse_cost(cost) for cost in content["cost"]),
            summaries=tuple(parse_summary(cell) for cell in content["summary"]),
            scores=read_scores(folder / "results.csv"),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"The results in {folder} cannot be read ({error!r}). {remedy}") from error
