"""How the benchmark was set up: settings, versions, where data come from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from nnunet_semisam.benchmark.held_out import CHECKED_FILE
from nnunet_semisam.benchmark.records import Equal, RunRecord
from nnunet_semisam.errors import UserError, printable
from nnunet_semisam.io.hashes import sha256_of
from nnunet_semisam.io.json_files import read_object
from nnunet_semisam.io.regular_files import MIB, read_text
from nnunet_semisam.report.drawing.html_parts import details, paragraph, plain_table, pre
from nnunet_semisam.report.reading.benchmark_folder import Benchmark
from nnunet_semisam.report.reading.software import common, differences, recorded
from nnunet_semisam.report.reading.training_cases import DatasetRecord

LENGTHS = {
    Equal.STEPS: "the same training length",
    Equal.TIME: "the training length of the settings; trainers whose steps take longer train for fewer epochs",
}
IN_COMMON = {Equal.STEPS: "optimiser steps", Equal.TIME: "wall-clock time"}
RESULT_FILES = ("results.json", "results.csv")
MOST_BYTES = MIB  # of a file of settings
MOST_CHARACTERS = 500  # of a setting


def setup_section(benchmark: Benchmark, dataset: DatasetRecord) -> str:
    """Return configuration, versions and provenance."""
    return (
        f"<h3>Configuration</h3>{configuration_part(benchmark)}"
        f"<h3>Versions and machines</h3>{versions_part(benchmark)}"
        f"<h3>Provenance</h3>{provenance_part(benchmark, dataset)}"
    )


def configuration_part(benchmark: Benchmark) -> str:
    """Return what all runs share, and the resolved settings of every trainer."""
    study = benchmark.study
    judged = f"{benchmark.num_cases} {study.cases.value} cases"
    if study.test_set:
        judged += f" ({study.test_set})"
    device = study.device
    used = sorted({run.device for run in benchmark.runs if run.device})
    if used:
        device += f" ({', '.join(used)})"
    rows = [
        ("dataset", study.dataset),
        ("plans", study.plans),
        ("configurations", ", ".join(study.configurations)),
        ("trainers", ", ".join(benchmark.trainers)),
        ("baseline", f"{benchmark.baseline}: plain nnU-Net with {LENGTHS[study.equal]}"),
        ("labeled patients", ", ".join(map(str, benchmark.budgets))),
        ("seeds", ", ".join(map(str, study.seeds))),
        ("in common", IN_COMMON[study.equal]),
        ("judged on", judged),
        ("device", device),
        *_flat(study.settings),
    ]
    resolved = []
    for run, text in _resolved_settings(benchmark):
        title = f"Resolved settings of {benchmark.short(run.trainer)}"
        resolved.append(details(title, pre(text), note=run.name))
    return plain_table(("setting", "value"), rows) + "".join(resolved)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each setting with its name; one of a block is called ``block.name``."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield printable(f"{prefix}{name}"), printable(str(value), MOST_CHARACTERS)


def _resolved_settings(benchmark: Benchmark) -> list[tuple[RunRecord, str]]:
    """Return the first run of every trainer that left its resolved settings, and these."""
    found: dict[str, tuple[RunRecord, str]] = {}
    for run in benchmark.runs:
        if run.trainer in found:
            continue
        try:
            path = benchmark.file(run.training, "semisam_config.yaml")
            if path is not None:
                found[run.trainer] = (run, read_text(path, "The page can be made without it.", MOST_BYTES))
        except UserError as error:
            benchmark.damage.note("records of settings", f"semisam_config.yaml of {run.name}", error)
    return list(found.values())


def versions_part(benchmark: Benchmark) -> str:
    """Return the versions that numbers rest on, the machines, and what differs between trainings."""
    hosts = {f"{run.host}, {run.gpu or 'no GPU'}" for run in benchmark.runs if run.host}
    rows = [*common(benchmark).items(), ("machines", "; ".join(sorted(hosts)))]
    table = plain_table(("package", "version"), rows)
    if not recorded(benchmark):
        note = "No training has recorded its software; these are of the writing of the results."
        return table + paragraph(note, "dim")
    lines = [paragraph(f"Trainings differ in {text}.", "cautions") for text in differences(benchmark)]
    return "".join(lines) + table


def provenance_part(benchmark: Benchmark, dataset: DatasetRecord) -> str:
    """Return digests, checks for leaks, and which cases every fold was trained on."""
    study = benchmark.study
    rows = [("plans, SHA-256", study.plans_sha256)]
    rows += [(f"{name}, SHA-256", sha256_of(benchmark.folder / name)) for name in RESULT_FILES]
    checked = _checked_folds(benchmark)
    for number, fold in study.folds.items():
        leaks = "patients and images checked: on one side only" if fold.sha256 in checked else "leaks not checked"
        rows.append((f"fold {number}, {fold.budget} labeled", f"{fold.sha256} ({leaks})"))
    if dataset.manifest is not None:
        made = {"converter": dataset.manifest.converter or None, **dataset.manifest.settings}
        rows.append(("dataset made by", json.dumps(made)))
        rows.append(("fingerprint of the data", dataset.manifest.fingerprint or "not recorded"))
    return plain_table(("what", "value"), rows) + _folds_table(dataset)


def _folds_table(dataset: DatasetRecord) -> str:
    """Return which cases every fold was trained on, as far as it is known, and why it is not."""
    cases = []
    for fold, known in sorted(dataset.folds.items()):
        cases.append((fold, len(known.labeled), len(known.unlabeled), " ".join(known.labeled)))
    table = plain_table(("fold", "labeled cases", "unlabeled cases", "labeled"), cases) if cases else ""
    note = paragraph(f"Note: {dataset.missing}.", "dim") if dataset.missing else ""
    return table + note


def _checked_folds(benchmark: Benchmark) -> set[str]:
    """Return the digests of the folds that were compared for leaks."""
    try:
        path = benchmark.file(CHECKED_FILE)
        if path is None:
            return set()
        return set(read_object(path, "Delete it and start the benchmark once more: it compares again."))
    except UserError as error:
        benchmark.damage.note("records of checks for leaks", CHECKED_FILE, error)
        return set()
