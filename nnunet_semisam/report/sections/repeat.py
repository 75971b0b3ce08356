"""What to type to get a benchmark and its page again, from the raw data on."""

from __future__ import annotations

import shlex
from pathlib import Path

import yaml

from nnunet_semisam.benchmark.tasks import AUTO
from nnunet_semisam.report.drawing.html_parts import details, pre
from nnunet_semisam.report.reading.benchmark_folder import Benchmark
from nnunet_semisam.report.reading.software import WEIGHTS, common
from nnunet_semisam.report.reading.training_cases import DatasetRecord
from nnunet_semisam.report.sections.data_commands import data_commands, dataset_id

SETTINGS_FILE = "settings.yaml"
OURS = "nnunet-semisam"
FOLDERS = "export nnUNet_raw=... nnUNet_preprocessed=... nnUNet_results=..."
TRAINERS = 'export nnUNet_extTrainer="$(nnunet-semisam trainers-path)"'


def commands_part(benchmark: Benchmark, dataset: DatasetRecord) -> str:
    """Return software, data, settings and the command, and what the benchmark itself has called."""
    settings = yaml.safe_dump(benchmark.study["settings"], sort_keys=False)
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
    folders = [benchmark.folder / "runs" / run["run"] for run in benchmark.runs]
    commands = sorted({line for folder in folders for line in _logged_commands(folder)})
    ran = details("Commands of nnU-Net that the benchmark ran", pre("\n".join(commands))) if commands else ""
    return pre("\n".join(lines) + "\n") + ran


def software_commands(benchmark: Benchmark) -> list[str]:
    """Return how to install what the trainings had in common; of this package the version and, if known, the commit."""
    found = common(benchmark)
    other = ("python", OURS, f"{OURS} commit", WEIGHTS)
    packages = [f"{name}=={version}" for name, version in found.items() if name not in other and name[0] != "$"]
    lines = [shlex.join(["pip", "install", *packages])] if packages else []
    if OURS in found:
        commit = found.get(f"{OURS} commit")
        lines.append(f"# {OURS} {found[OURS]}" + (f", commit {commit}" if commit else "") + ": install its source")
    return lines


def variables(benchmark: Benchmark) -> list[str]:
    """Return the variables of the environment that all trainings had in common."""
    return [f"export {name[1:]}={shlex.quote(value)}" for name, value in common(benchmark).items() if name[0] == "$"]


def benchmark_command(benchmark: Benchmark) -> list[str]:
    """Return the words of the command that makes the same runs."""
    study = benchmark.study
    words = ["nnunet-semisam", "benchmark", "-d", dataset_id(benchmark)]
    words += ["-p", study["plans"], "-c", *study["configurations"], "--trainers", *study["trainers"]]
    words += ["--folds", *map(str, study["folds"]), "--seeds", *map(str, study["seeds"])]
    words += ["--settings", SETTINGS_FILE, "--equal", study["equal"], "--cases", study["cases"]]
    if study["test_set"]:
        words += ["--test-set", study["test_set"]]
    device = [] if study["device"] == AUTO else ["--device", study["device"]]
    return [*words, *device, "-o", "benchmark"]


def _logged_commands(run: Path) -> list[str]:
    lines = []
    for name in ("train.log", "predict.log"):
        path = run / name
        if path.is_file():
            with path.open(encoding="utf-8", errors="replace") as file:
                lines += [line[2:].rstrip() for line in file if line.startswith("$ nnUNetv2_")]
    return lines
