"""What to type to get a benchmark and its page again, from the raw data on."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import yaml

from nnunet_semisam.benchmark.records import RunRecord
from nnunet_semisam.errors import UserError, printable
from nnunet_semisam.io.regular_files import check_regular_file
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
MOST_LINE = 2**16
MOST_CHARACTERS = 2000  # of a command
MOST_SETTINGS = 100_000  # characters
# What may stand in a command that readers copy: the files that it comes from may not be their own.
PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]*")
VARIABLE_NAME = re.compile(r"\$[A-Za-z_][A-Za-z0-9_]*")
CALLED = "$ "  # before a command in a log


def repeat_section(benchmark: Benchmark, dataset: DatasetRecord) -> str:
    """Return software, data, settings and the command, and what the benchmark itself has called."""
    settings = _settings_text(benchmark)
    end = "END"
    while end in settings.split("\n"):
        end += "_"
    lines = [
        *software_commands(benchmark),
        FOLDERS,
        TRAINERS,
        *variables(benchmark),
        *data_commands(benchmark, dataset),
        f"cat > {SETTINGS_FILE} <<'{end}'\n{settings}{end}",
        shlex.join(benchmark_command(benchmark)),
        "nnunet-semisam report -i benchmark -o report.html",
    ]
    commands: set[str] = set()
    for run in benchmark.runs:
        commands.update(_logged_commands(benchmark, run))
    called = ""
    if commands:
        called = details("Commands of nnU-Net that the benchmark ran", pre("\n".join(sorted(commands))))
    return pre("\n".join(lines) + "\n") + called


def _settings_text(benchmark: Benchmark) -> str:
    """Return the settings as a yaml file."""
    settings = dict(benchmark.study.settings)
    if len(str(settings)) > MOST_SETTINGS:
        benchmark.damage.note("records of settings", "study.settings", f"more than {MOST_SETTINGS} characters")
        settings = {}
    return yaml.safe_dump(settings, sort_keys=False)


def software_commands(benchmark: Benchmark) -> list[str]:
    """Return how to install what the trainings had in common; of this package the version and, if known, the commit."""
    found = common(benchmark)
    packages = []
    odd = []
    for name, version in found.items():
        if name not in ("python", OURS, COMMIT, WEIGHTS) and not name.startswith(VARIABLE):
            fits = PACKAGE.fullmatch(name) and VERSION.fullmatch(version)
            (packages if fits else odd).append(f"{name}=={version}")
    lines = []
    if packages:
        lines.append(shlex.join(["pip", "install", *packages]))
    if OURS in found:
        commit = f", commit {found[COMMIT]}" if COMMIT in found else ""
        lines.append(comment(f"{OURS} {found[OURS]}{commit}: install its source"))
    if odd:
        lines.append(comment(f"on record, and no package with a version: {len(odd)} entries"))
    return lines


def comment(text: str) -> str:
    """Return a line of a shell script that does nothing, whatever the text."""
    return f"# {' '.join(printable(text, MOST_CHARACTERS).split())}"


def variables(benchmark: Benchmark) -> list[str]:
    """Return the variables of the environment that all trainings had in common."""
    lines = []
    for name, value in common(benchmark).items():
        if VARIABLE_NAME.fullmatch(name):
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


def _logged_commands(benchmark: Benchmark, run: RunRecord) -> list[str]:
    """Return the commands of nnU-Net in the logs of a run."""
    commands = []
    for name in LOGS:
        place = f"runs/{run.name}/{name}"
        try:
            path = benchmark.file(place)
            if path is not None:
                check_regular_file(path, "The page can be made without it.")
                commands += _commands_in(path)
        except (UserError, OSError) as error:
            benchmark.damage.note("logs of commands", place, error)
    return commands


def _commands_in(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", errors="replace") as file:
        starts = True  # of a line, and not the rest of one that is too long to be a command
        while line := file.readline(MOST_LINE):
            if starts and line.startswith(f"{CALLED}nnUNetv2_"):
                yield printable(line.removeprefix(CALLED).rstrip(), MOST_CHARACTERS)
            starts = line.endswith("\n")
