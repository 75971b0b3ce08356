"""How the benchmark was set up: settings, versions, where data come from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_semisam.benchmark.held_out import CHECKED_FILE
from nnunet_semisam.report.drawing.html_parts import details, paragraph, plain_table, pre
from nnunet_semisam.report.reading.benchmark_folder import Benchmark
from nnunet_semisam.report.reading.training_cases import DatasetRecord

LENGTHS = {
    "steps": "the same training length",
    "time": "the training length of the settings; trainers whose steps take longer train for fewer epochs",
}
RESULT_FILES = ("results.json", "results.csv")


def configuration_part(benchmark: Benchmark) -> str:
    """Return what all runs share, and the resolved settings of every trainer."""
    study = benchmark.study
    judged = f"{len(benchmark.content['cases']['groups'])} {study['cases']} cases"
    used = ", ".join(sorted({run["device"] for run in benchmark.runs if run.get("device")}))
    rows = [
        ("dataset", study["dataset"]),
        ("plans", study["plans"]),
        ("configurations", ", ".join(study["configurations"])),
        ("trainers", ", ".join(benchmark.trainers)),
        ("baseline", f"{benchmark.baseline}: plain nnU-Net with {LENGTHS[study['equal']]}"),
        ("labeled patients", ", ".join(map(str, benchmark.budgets))),
        ("seeds", ", ".join(map(str, study["seeds"]))),
        ("in common", "optimiser steps" if study["equal"] == "steps" else "wall-clock time"),
        ("judged on", judged + (f" ({study['test_set']})" if study["test_set"] else "")),
        ("device", f"{study['device']}{' (' + used + ')' if used else ''}"),
    ]
    shared = plain_table(("setting", "value"), [*rows, *((name, value) for name, value in study["settings"].items())])
    resolved = "".join(
        details(f"Resolved settings of {benchmark.short(run['trainer'])}", pre(text), note=run["run"])
        for run, text in _resolved(benchmark)
    )
    return shared + resolved


def _resolved(benchmark: Benchmark) -> list[tuple[Mapping[str, Any], str]]:
    """Return the first run of every trainer that left its resolved settings, and these."""
    found: dict[str, tuple[Mapping[str, Any], str]] = {}
    for run in benchmark.runs:
        path = benchmark.folder / run["training"] / "semisam_config.yaml"
        if run["trainer"] not in found and path.is_file():
            found[run["trainer"]] = run, path.read_text(encoding="utf-8")
    return list(found.values())


def provenance_part(benchmark: Benchmark, dataset: DatasetRecord) -> str:
    """Return digests, checks for leaks, and which cases every fold was trained on."""
    study = benchmark.study
    rows = [("plans, SHA-256", study["plans_sha256"])]
    rows += [(f"{name}, SHA-256", digest(benchmark.folder / name)) for name in RESULT_FILES]
    checked = _checked_folds(benchmark)
    for fold, content in study["folds"].items():
        leak = "patients and images checked: on one side only" if content["sha256"] in checked else "leaks not checked"
        rows.append((f"fold {fold}, {content['budget']} labeled", f"{content['sha256']} ({leak})"))
    if dataset.manifest:
        made = {"converter": dataset.manifest.get("converter"), **dataset.manifest.get("settings", {})}
        rows.append(("dataset made by", json.dumps(made)))
        rows.append(("fingerprint of the data", dataset.manifest.get("fingerprint", "not recorded")))
    cases = [
        (fold, len(known.labeled), len(known.unlabeled), " ".join(known.labeled))
        for fold, known in sorted(dataset.folds.items())
    ]
    table = plain_table(("fold", "labeled cases", "unlabeled cases", "labeled"), cases) if cases else ""
    note = paragraph(f"Note: {dataset.missing}.", "dim") if dataset.missing else ""
    return plain_table(("what", "value"), rows) + table + note


def _checked_folds(benchmark: Benchmark) -> set[str]:
    """Return the digests of the folds that were compared for leaks (a list, in files of older versions)."""
    path = benchmark.folder / CHECKED_FILE
    return set(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else set()


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
