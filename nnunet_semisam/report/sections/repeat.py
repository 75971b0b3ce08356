"""What to type to get a benchmark and its page again, from the raw data on."""

from __future__ import annotations

import shlex
from pathlib import Path

import yaml

from nnunet_semisam.jobs.nnunet_command import AUTO
from nnunet_semisam.report.drawing.html_parts import details, pre
from nnunet_semisam.report.reading.benchmark_folder import Benchmark
from nnunet_semisam.report.reading.software import VARIABLE, WEIGHTS, common
from nnunet_semisam.report.reading.training_cases import DatasetRecord
from nnunet_semisam.report.sections.data_commands import data_commands, dataset_id

SETTINGS_FILE = "settings.yaml"
OURS = "nnunet-semisam"
COMMIT = f"{OURS} commit"
FOLDERS = "export nnUNet_raw=... nnUNet_preprocessed=... nnUNet_results=..."
TRAINERS = 'export nnUNet_extTrainer="$(nnunet-semisam trainers-path)"'
LOGS = ("train.log", "predict.log")
CALLED = "$ "  # before a command in a log


def repeat_section(benchmark: Benchmark, dataset: DatasetRecord) -> str:
    """Return software, data, settings and the command, and what the benchmark itself has called."""
    settings = yaml.safe_dump(dict(benchmark.study.settings), sort_keys=False)
    lines = [
        *software_commands(benchmark),
        FOLDERS,
        TRAINERS,
        *variables(benchmark),
        *data_commands(benchmark, dataset),
        f"cat > {SETTINGS_FILE} <<'END'\n{settings}END",
        shlex.join(benchmark_command(benchmark)),
        "nnunet-semisam report -i benchmark -o report.html",
    ]
    commands: set[str] = set()
    for run in benchmark.runs:
        commands.update(_logged_commands(benchmark.folder / "runs" / run.name))
    called = ""
    if commands:
        called = details("Commands of nnU-Net that the benchmark ran", pre("\n".join(sorted(commands))))
    return pre("\n".join(lines) + "\n") + called


def software_commands(benchmark: Benchmark) -> list[str]:
    """Return how to install what the trainings had in common; of this package the version and, if known, the commit."""
    found = common(benchmark)
    packages = []
    for name, version in found.items():
        if name not in ("python", OURS, COMMIT, WEIGHTS) and not name.startswith(VARIABLE):
            packages.append(f"{name}=={version}")
    lines = []
    if packages:
        lines.append(shlex.join(["pip", "install", *packages]))
    if OURS in found:
        commit = f", commit {found[COMMIT]}" if COMMIT in found else ""
        lines.append(f"# {OURS} {found[OURS]}{commit}: install its source")
    return lines


def variables(benchmark: Benchmark) -> list[str]:
    """Return the variables of the environment that all trainings had in common."""
    lines = []
    for name, value in common(benchmark).items():
        if name.startswith(VARIABLE):
            lines.append(f"export {name.removeprefix(VARIABLE)}={shlex.quote(value)}")
    return lines


def benchmark_command(benchmark: Benchmark) -> list[str]:
    """Return the words of the command that makes the same runs."""
    study = benchmark.study
    words = ["nnunet-semisam", "benchmark", "-d", dataset_id(benchmark), "-p", study.plans]
    words += ["-c", *study.configurations]
    words += ["--trainers", *study.trainers]
    words += ["--folds", *map(str, study.folds)]
    words += ["--seeds", *map(str, study.seeds)]
    words += ["--settings", SETTINGS_FILE, "--equal", study.equal.value, "--cases", study.cases.value]
    if study.test_set:
        words += ["--test-set", study.test_set]
    if study.device != AUTO:
        words += ["--device", study.device]
    words += ["-o", "benchmark"]
    return words


def _logged_commands(run: Path) -> list[str]:
    """Return the commands of nnU-Net in the logs of a run."""
    commands = []
    for name in LOGS:
        path = run / name
        if not path.is_file():
            continue
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith(f"{CALLED}nnUNetv2_"):
                    commands.append(line.removeprefix(CALLED).rstrip())
    return commands
