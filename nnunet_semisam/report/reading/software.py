"""Which software the trainings ran with, by what each of them wrote down, and where they differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nnunet_semisam.benchmark.records import RunRecord
from nnunet_semisam.report.reading.benchmark_folder import Benchmark

NOTHING = "nothing"
WEIGHTS = "SAM weights, fingerprint"
VARIABLE = "$"  # before the name of a variable of the environment

Recorded = dict[str, dict[str, list[str]]]
"""Package, ``$`` and variable, or weights -> version or value -> names of the runs that had it."""


def recorded(benchmark: Benchmark) -> Recorded:
    """Return what the trainings ran with, of all that have a record."""
    found: Recorded = {}
    for run in benchmark.runs:
        for name, value in _facts(run):
            runs = found.setdefault(name, {}).setdefault(value, [])
            if run.name not in runs:
                runs.append(run.name)
    with_record = [run.name for run in benchmark.runs if run.software]
    for name, values in found.items():
        if name != WEIGHTS:  # most trainers use no SAM
            _add_runs_without(values, with_record)
    return found


def _facts(run: RunRecord) -> Iterator[tuple[str, str]]:
    for software in run.software:
        yield from software.versions.items()
        for name, value in software.variables.items():
            yield f"{VARIABLE}{name}", value
        for fingerprint in software.sam_fingerprints:
            yield WEIGHTS, fingerprint


def _add_runs_without(values: dict[str, list[str]], runs: Sequence[str]) -> None:
    known = {name for names in values.values() for name in names}
    without = [name for name in runs if name not in known]
    if without:
        values[NOTHING] = without


def differences(benchmark: Benchmark) -> list[str]:
    """Return a sentence for everything in which the trainings differ."""
    sentences = []
    for name, values in recorded(benchmark).items():
        if len(values) > 1:
            parts = [f"{value} in {_names(runs)}" for value, runs in values.items()]
            sentences.append(f"{name}: {'; '.join(parts)}")
    return sentences


def _names(runs: Sequence[str], most: int = 3) -> str:
    more = f" and {len(runs) - most} more" if len(runs) > most else ""
    return ", ".join(runs[:most]) + more


def common(benchmark: Benchmark) -> dict[str, str]:
    """Return what all trainings had in common; the versions of now if none has a record."""
    found = recorded(benchmark)
    if not found:
        return dict(benchmark.versions)
    return {name: next(iter(values)) for name, values in found.items() if len(values) == 1}
