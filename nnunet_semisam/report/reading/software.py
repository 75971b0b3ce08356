"""Which software the trainings ran with, by what each of them wrote down, and where they differ."""

from __future__ import annotations

from collections.abc import Iterator

from nnunet_semisam.report.drawing.html_parts import paragraph, plain_table
from nnunet_semisam.report.reading.benchmark_folder import Benchmark

NOTHING = "nothing"
WEIGHTS = "SAM weights, fingerprint"


def recorded(benchmark: Benchmark) -> dict[str, dict[str, list[str]]]:
    """Return package, variable or weights -> version or value -> the runs that had it, for all that have a record."""
    found: dict[str, dict[str, list[str]]] = {}
    for run in benchmark.runs:
        for name, value in _facts(run):
            runs = found.setdefault(name, {}).setdefault(value, [])
            if run["run"] not in runs:
                runs.append(run["run"])
    every = [run["run"] for run in benchmark.runs if run.get("software")]
    for values in (values for name, values in found.items() if name != WEIGHTS):  # most trainers ask no SAM
        if without := [name for name in every if not any(name in runs for runs in values.values())]:
            values[NOTHING] = without
    return found


def _facts(run: dict) -> Iterator[tuple[str, str]]:
    for software in run.get("software", []):
        yield from software["versions"].items()
        yield from ((f"${name}", value) for name, value in software["variables"].items())
        yield from ((WEIGHTS, fingerprint) for fingerprint in software["sam_fingerprints"])


def differences(benchmark: Benchmark) -> list[str]:
    """Return a sentence for everything in which the trainings differ."""
    return [
        f"{name}: {'; '.join(f'{value} in {_names(runs)}' for value, runs in values.items())}"
        for name, values in recorded(benchmark).items()
        if len(values) > 1
    ]


def _names(runs: list[str], most: int = 3) -> str:
    more = f" and {len(runs) - most} more" if len(runs) > most else ""
    return ", ".join(runs[:most]) + more


def common(benchmark: Benchmark) -> dict[str, str]:
    """Return what all trainings had in common; the versions of now if none has a record."""
    found = recorded(benchmark)
    if not found:
        return dict(benchmark.content["versions"])
    return {name: next(iter(values)) for name, values in found.items() if len(values) == 1}


def versions_part(benchmark: Benchmark) -> str:
    """Return the versions that numbers rest on, the machines, and what differs between trainings."""
    hosts = sorted({f"{run['host']}, {run['gpu'] or 'no GPU'}" for run in benchmark.runs if run["host"]})
    table = plain_table(("package", "version"), [*common(benchmark).items(), ("machines", "; ".join(hosts))])
    if not recorded(benchmark):
        return table + paragraph(
            "No training has recorded its software; these are of the writing of the results.", "dim"
        )
    lines = [paragraph(f"Trainings differ in {text}.", "cautions") for text in differences(benchmark)]
    return "".join(lines) + table
