"""How the benchmark was set up: settings, versions, where data come from, commands to repeat it."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from nnunet_semisam.report.benchmark_folder import Benchmark
from nnunet_semisam.report.html_parts import details, paragraph, plain_table, pre
from nnunet_semisam.report.training_cases import DatasetRecord

SETTINGS_FILE = "settings.yaml"
RESULT_FILES = ("results.json", "results.csv")


def configuration_part(benchmark: Benchmark) -> str:
    """Return what all runs share, and the resolved settings of every trainer."""
    study = benchmark.study
    judged = f"{len(benchmark.content['cases']['groups'])} {study['cases']} cases"
    rows = [
        ("dataset", study["dataset"]),
        ("plans", study["plans"]),
        ("configurations", ", ".join(study["configurations"])),
        ("trainers", ", ".join(benchmark.trainers)),
        ("baseline", f"{benchmark.baseline}: plain nnU-Net with the same training length"),
        ("labeled patients", ", ".join(map(str, benchmark.budgets))),
        ("seeds", ", ".join(map(str, study["seeds"]))),
        ("in common", "optimiser steps" if study["equal"] == "steps" else "wall-clock time"),
        ("judged on", judged + (f" ({study['test_set']})" if study["test_set"] else "")),
        ("device", study["device"]),
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


def versions_part(benchmark: Benchmark) -> str:
    """Return the versions that numbers depend on, and the machines."""
    hosts = sorted({f"{run['host']}, {run['gpu'] or 'no GPU'}" for run in benchmark.runs if run["host"]})
    return plain_table(("package", "version"), [*benchmark.content["versions"].items(), ("machines", "; ".join(hosts))])


def provenance_part(benchmark: Benchmark, dataset: DatasetRecord) -> str:
    """Return digests, checks for leaks, and which cases every fold was trained on."""
    study = benchmark.study
    rows = [("plans, SHA-256", study["plans_sha256"])]
    rows += [(f"{name}, SHA-256", digest(benchmark.folder / name)) for name in RESULT_FILES]
    checked = _leak_checks(benchmark)
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


def _leak_checks(benchmark: Benchmark) -> list[str]:
    path = benchmark.folder / "leakage.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def commands_part(benchmark: Benchmark) -> str:
    """Return what to type to get this benchmark and this page again."""
    settings = yaml.safe_dump(benchmark.study["settings"], sort_keys=False)
    text = (
        f"cat > {SETTINGS_FILE} <<'END'\n{settings}END\n{' '.join(map(shlex.quote, benchmark_command(benchmark)))}\n"
        "nnunet-semisam report -i benchmark -o report.html\n"
    )
    packages = " ".join(
        f"{name}=={version}" for name, version in benchmark.content["versions"].items() if name != "python"
    )
    folders = [benchmark.folder / "runs" / run["run"] for run in benchmark.runs]
    commands = sorted({line for folder in folders for line in _logged_commands(folder)})
    ran = details("Commands of nnU-Net that the benchmark ran", pre("\n".join(commands))) if commands else ""
    before = f"pip install {packages}\n" if packages else ""
    return pre(before + text) + ran


def benchmark_command(benchmark: Benchmark) -> list[str]:
    """Return the words of the command that makes the same runs."""
    study = benchmark.study
    number = re.match(r"Dataset(\d{3})_", study["dataset"])
    words = ["nnunet-semisam", "benchmark", "-d", str(int(number[1])) if number else study["dataset"]]
    words += ["-p", study["plans"], "-c", *study["configurations"], "--trainers", *study["trainers"]]
    words += ["--folds", *map(str, study["folds"]), "--seeds", *map(str, study["seeds"])]
    words += ["--settings", SETTINGS_FILE, "--equal", study["equal"], "--cases", study["cases"]]
    if study["test_set"]:
        words += ["--test-set", study["test_set"]]
    return [*words, "--device", study["device"], "-o", "benchmark"]


def _logged_commands(run: Path) -> list[str]:
    lines = []
    for name in ("train.log", "predict.log"):
        path = run / name
        if path.is_file():
            with path.open(encoding="utf-8", errors="replace") as file:
                lines += [line[2:].rstrip() for line in file if line.startswith("$ nnUNetv2_")]
    return lines
