"""What ``nnunet-semisam benchmark`` left in a folder, ready to be shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from nnunet_semisam.benchmark.metrics import MEAN, UNITS
from nnunet_semisam.benchmark.records import RunRecord, Score, ScoreRow, Summary
from nnunet_semisam.benchmark.results_files import Results, read_results
from nnunet_semisam.report.reading.consistency import (
    ENTRIES,
    ROWS,
    check_study,
    contradictions,
    usable_results,
    usable_rows,
)
from nnunet_semisam.report.reading.damage import Damage
from nnunet_semisam.report.reading.links import refuse_link_out

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

    def holds(self, run: RunRecord) -> bool:
        """Return whether a run belongs here, whatever its fold and seed."""
        return (run.configuration, run.budget, run.trainer) == (self.configuration, self.budget, self.trainer)


@dataclass(frozen=True, kw_only=True)
class Benchmark(Results):
    """The results of a benchmark, with every score.

    Attributes:
        folder: Where it lies; paths in records are relative to it.
        rows: The rows of ``results.csv``.
        damage: What was left out so far; readers of further files add to it.
        contradictions: Where the two files do not say the same, in sentences.
    """

    folder: Path
    rows: Sequence[ScoreRow]
    damage: Damage = field(default_factory=Damage, compare=False)
    contradictions: Sequence[str] = ()

    @cached_property
    def trainers(self) -> list[str]:
        """Return class names, the baseline first."""
        return sorted(self.study.trainers, key=lambda name: name != self.baseline)

    @cached_property
    def budgets(self) -> list[int]:
        """Return the label budgets, ascending."""
        budgets = {run.budget for run in self.runs} or {fold.budget for fold in self.study.folds.values()}
        return sorted(budgets)

    @cached_property
    def labels(self) -> list[str]:
        """Return the names of labels and regions, without the mean."""
        names = dict.fromkeys(row.score.label for row in self.rows)
        return [name for name in names if name != MEAN]

    @cached_property
    def units(self) -> dict[str, str]:
        """Return metric -> unit: of volumes, or of 2D images."""
        found = dict(UNITS)
        for row in self.rows:
            found[row.score.metric] = row.score.unit
        return found

    def file(self, *parts: str) -> Path | None:
        """Return a file of the benchmark's, or ``None`` if there is none.

        Raises:
            UserError: If it is a link that leads out of the benchmark: see :func:`refuse_link_out`.
        """
        path = self.folder.joinpath(*parts)
        refuse_link_out(path, self.folder)
        return path if path.exists() or path.is_symlink() else None

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
        return "nnU-Net" if trainer == self.baseline else trainer.replace("nnUNetTrainer", "")

    @cached_property
    def scores_by_run(self) -> dict[str, dict[str, CaseScores]]:
        """Return run -> case -> its scores."""
        found: dict[str, dict[str, dict[tuple[str, str], Score]]] = {}
        for row in self.rows:
            cases = found.setdefault(row.run.name, {})
            cases.setdefault(row.case, {})[row.score.label, row.score.metric] = row.score
        return found


def read_benchmark(folder: Path) -> Benchmark:
    """Read a benchmark; what of it is damaged is left out and noted.

    Raises:
        UserError: If the folder holds no results, or results of another format.
    """
    results, rows, damaged = read_results(folder)
    check_study(results)
    damage = Damage(results.study.folder)
    for sentence in damaged.entries:
        damage.note(ENTRIES, sentence)
    for sentence in damaged.rows:
        damage.note(ROWS, sentence)
    results = usable_results(results, damage)
    rows = usable_rows(results, rows, damage)
    return Benchmark(
        folder=results.study.folder,
        rows=rows,
        damage=damage,
        contradictions=contradictions(results, rows),
        **vars(results),
    )
