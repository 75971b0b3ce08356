"""The commands that made the data of a benchmark, as far as records tell: converter, plans, folds, unlabeled images."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence

from nnunet_semisam.data.datasets import PLANS
from nnunet_semisam.report.reading.benchmark_folder import Benchmark
from nnunet_semisam.report.reading.plans import DEFAULT_PLANNER, UsedPlans, used_plans
from nnunet_semisam.report.reading.training_cases import DatasetRecord
from nnunet_semisam.splits.group_selection import as_name

# What manifests call converters; all others were made by ``convert nnunet``.
CONVERTERS = {"ACDC": "acdc", "LA2018": "la", "BHSD": "bhsd"}
FROM_NNUNET = "nnunet"
OPTIONS = {"split": "--split", "format": "--format", "intensities": "--intensities", "group": "--group"}
ORDER_FILE = "order.txt"


def data_commands(benchmark: Benchmark, dataset: DatasetRecord) -> list[str]:
    """Return lines of a shell script; what is not on record is said in a comment."""
    number = dataset_id(benchmark)
    lines = convert_commands(dataset, number) + plan_commands(benchmark, dataset, number)
    if dataset.pool:
        lines.append(pool_command(benchmark, number))
    return lines


def dataset_id(benchmark: Benchmark) -> str:
    """Return what follows ``-d``."""
    number = re.match(r"Dataset(\d{3})_", benchmark.study.dataset)
    return str(int(number[1])) if number else benchmark.study.dataset


def convert_commands(dataset: DatasetRecord, number: str) -> list[str]:
    """Return the command that made the raw dataset, with the settings that its converter recorded."""
    if dataset.manifest is None:
        why = f" ({dataset.missing})" if dataset.missing else ""
        text = f"no converter's record of the dataset{why}: put it into $nnUNet_raw as it was"
        return [f"# {' '.join(text.split())}"]
    settings = dataset.manifest.settings
    # a pattern for groups is an option of that converter alone, whatever the source was called
    name = FROM_NNUNET if "group" in settings else CONVERTERS.get(dataset.manifest.converter, FROM_NNUNET)
    labeled = settings.get("labeled_patients") or settings.get("labeled_cases") or []
    words = ["nnunet-semisam", "convert", name, "-i", "FOLDER", "-d", number]
    words += ["--labeled", *_labeled_words(labeled)]
    for key in ("val_patients", "val_cases"):
        if key in settings:
            words += ["--val", *_names(settings[key])]
    for key, option in OPTIONS.items():
        if settings.get(key):
            words += [option, str(settings[key])]
    if settings.get("seed") is not None:
        words += ["--seed", str(settings["seed"])]
    if settings.get("test_patients"):
        words += ["--test", *_names(settings["test_patients"])]
    if settings.get("left_out"):
        words += ["--leave-out", *settings["left_out"]]
    record = {"converter": dataset.manifest.converter or None, **settings}
    lines = [f"# on record of the data: {json.dumps(record)}"]
    if name == FROM_NNUNET and labeled:
        lines.append(_order_file(max(labeled, key=len)))
        words += ["--order", ORDER_FILE]
    return [*lines, shlex.join(words)]


def _names(groups: Sequence[str]) -> list[str]:
    """Return the words that name these groups; without any, the number 0."""
    return [as_name(group) for group in groups] or ["0"]


def _labeled_words(budgets: Sequence[Sequence[str]]) -> list[str]:
    """Return the names of the only budget, or how many groups each of several has.

    Numbers get a sign where groups may be called by numbers.
    """
    if len(budgets) == 1:
        return [as_name(group) for group in budgets[0]]
    groups = [group for budget in budgets for group in budget]
    sign = "+" if any(as_name(group) != group for group in groups) else ""
    return [f"{sign}{len(budget)}" for budget in budgets]


def _order_file(names: Sequence[str]) -> str:
    return f"printf '%s\\n' {shlex.join(names)} > {ORDER_FILE}"


def plan_commands(benchmark: Benchmark, dataset: DatasetRecord, number: str) -> list[str]:
    """Return the commands that made plans, preprocessed data and folds."""
    configurations = benchmark.study.configurations
    name = benchmark.study.plans
    known = {}
    for configuration in configurations:
        plans = used_plans(benchmark, configuration)
        if plans is not None:
            known[configuration] = plans
    if not known:
        return [
            f"# no training has left its plans; {name} must have the digest that this page names",
            _plan(number, DEFAULT_PLANNER, PLANS, configurations),
            *split_commands(dataset, number, []),
        ]
    first, plans = next(iter(known.items()))
    base = (plans.data_identifier or name).removesuffix(f"_{first}")
    if any(one.planned_on_labeled for one in known.values()):
        lines = [
            _plan(number, plans.planner, PLANS, configurations),
            *split_commands(dataset, number, ["--replan", "--plans-name", base]),
            shlex.join(["nnUNetv2_preprocess", "-d", number, "-plans_name", base, "-c", *configurations]),
        ]
    else:
        lines = [_plan(number, plans.planner, base, configurations), *split_commands(dataset, number, [])]
    if base != name:
        lines.append(_plan_mini(number, base, name, known))
    return lines


def _plan(number: str, planner: str, base: str, configurations: Sequence[str]) -> str:
    words = ["nnUNetv2_plan_and_preprocess", "-d", number, "-c", *configurations]
    if planner != DEFAULT_PLANNER:
        words += ["-pl", planner]
    elif base != PLANS:
        words += ["-overwrite_plans_name", base]
    return shlex.join(words)


def _plan_mini(number: str, base: str, name: str, known: Mapping[str, UsedPlans]) -> str:
    """Return the ``plan-mini`` that gives these widths, patches and batches."""
    words = ["nnunet-semisam", "plan-mini", "-d", number, "-p", base, "--name", name]
    features = max((plans.features for plans in known.values()), key=len)
    if features:
        words += ["--features", str(features[0]), str(max(features))]
    for plans in known.values():
        axes = len(plans.patch_size)
        if axes:
            words += [f"--patch{axes}d", *map(str, plans.patch_size)]
            words += [f"--batch{axes}d", str(plans.batch_size)]
    return shlex.join(words)


def split_commands(dataset: DatasetRecord, number: str, more: Sequence[str]) -> list[str]:
    """Return the ``split`` that made the folds; nothing if the converter made them.

    Args:
        dataset: What is known of the dataset.
        number: What follows ``-d``.
        more: Further words of the command.
    """
    split = dataset.split
    if split is None:
        return []
    words = ["nnunet-semisam", "split", "-d", number, "--labeled", *split.labeled]
    words += ["--val", *_names(split.val), "--seed", str(split.seed)]
    if split.group:
        words += ["--group", split.group]
    lines = []
    names = [line.split("#")[0].strip() for line in split.order]
    names = [name for name in names if name]
    if names:
        lines.append(_order_file(names))
        words += ["--order", ORDER_FILE]
    words += more
    if dataset.manifest is not None:  # converters write folds, too
        words.append("--overwrite")
    return [*lines, shlex.join(words)]


def pool_command(benchmark: Benchmark, number: str) -> str:
    """Return the command that preprocesses the images of ``imagesUl``."""
    study = benchmark.study
    return shlex.join(["nnunet-semisam", "preprocess", "-d", number, "-c", *study.configurations, "-p", study.plans])
