"""The commands that made the data of a benchmark, as far as records tell: converter, plans, folds, unlabeled images."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from nnunet_semisam.report.reading.anchor_limits import used_plans
from nnunet_semisam.report.reading.benchmark_folder import Benchmark
from nnunet_semisam.report.reading.training_cases import DatasetRecord
from nnunet_semisam.splits.group_selection import as_name
from nnunet_semisam.splits.replan import PLANNED_ON

# What manifests call converters, those of older versions included; all others were made by ``convert nnunet``.
CONVERTERS = {"ACDC": "acdc", "AcdcConverter": "acdc", "LA2018": "la", "BHSD": "bhsd"}
OPTIONS = {"split": "--split", "format": "--format", "intensities": "--intensities", "group": "--group"}
ORDER_FILE = "order.txt"


def data_commands(benchmark: Benchmark, dataset: DatasetRecord) -> list[str]:
    """Return lines of a shell script; what is not on record is said in a comment."""
    number = dataset_id(benchmark)
    return [
        *convert_commands(dataset, number),
        *plan_commands(benchmark, dataset, number),
        *([pool_command(benchmark, number)] if dataset.pool else []),
    ]


def dataset_id(benchmark: Benchmark) -> str:
    """Return what follows ``-d``."""
    number = re.match(r"Dataset(\d{3})_", benchmark.study["dataset"])
    return str(int(number[1])) if number else benchmark.study["dataset"]


def convert_commands(dataset: DatasetRecord, number: str) -> list[str]:
    """Return the command that made the raw dataset, with the settings that its converter recorded."""
    if not dataset.manifest:
        why = f" ({dataset.missing})" if dataset.missing else ""
        return [f"# no converter's record of the dataset{why}: put it into $nnUNet_raw as it was"]
    settings = dataset.manifest.get("settings", {})
    name = "nnunet" if "group" in settings else CONVERTERS.get(dataset.manifest.get("converter", ""), "nnunet")
    labeled = settings.get("labeled_patients") or settings.get("labeled_cases") or []
    words = ["nnunet-semisam", "convert", name, "-i", "FOLDER", "-d", number, "--labeled"]
    words += _numbers(labeled) if len(labeled) != 1 else [*map(as_name, labeled[0])]
    for key in ("val_patients", "val_cases"):
        if key in settings:
            words += ["--val", *_names(settings[key])]
    words += [word for key, option in OPTIONS.items() if settings.get(key) for word in (option, str(settings[key]))]
    if settings.get("seed") is not None:
        words += ["--seed", str(settings["seed"])]
    if settings.get("test_patients"):
        words += ["--test", *_names(settings["test_patients"])]
    if settings.get("left_out"):
        words += ["--leave-out", *settings["left_out"]]
    before = []
    if name == "nnunet" and labeled:
        before = _order_file(max(labeled, key=len))
        words += ["--order", ORDER_FILE]
    record = {"converter": dataset.manifest.get("converter"), **settings}
    return [f"# on record of the data: {json.dumps(record)}", *before, shlex.join(words)]


def _names(groups: Sequence[str]) -> list[str]:
    """Return the words that name these groups; without any, the number 0."""
    return [*map(as_name, groups)] or ["0"]


def _numbers(budgets: Sequence[Sequence[str]]) -> list[str]:
    """Return how many groups each budget has, with a sign where groups may be called by numbers."""
    sign = "+" if any(as_name(name) != name for groups in budgets for name in groups) else ""
    return [f"{sign}{len(groups)}" for groups in budgets]


def _order_file(names: Sequence[str]) -> list[str]:
    return [f"printf '%s\\n' {shlex.join(names)} > {ORDER_FILE}"]


def plan_commands(benchmark: Benchmark, dataset: DatasetRecord, number: str) -> list[str]:
    """Return the commands that made plans, preprocessed data and folds."""
    configurations, name = benchmark.study["configurations"], benchmark.study["plans"]
    plans = {one: used_plans(benchmark, one) for one in configurations}
    known = {one: plan["configurations"][one] for one, plan in plans.items() if one in plan.get("configurations", {})}
    if not known:
        note = f"# no training has left its plans; {name} must have the digest that this page names"
        return [note, *_plan(number, {}, "nnUNetPlans", configurations), *split_commands(dataset, number, [])]
    first, content = next(iter(known.items()))
    base = str(content.get("data_identifier", name)).removesuffix(f"_{first}")
    replanned = any(PLANNED_ON in one for one in known.values())
    lines = _plan(number, plans[first], "nnUNetPlans" if replanned else base, configurations)
    lines += split_commands(dataset, number, ["--replan", "--plans-name", base] if replanned else [])
    if replanned:
        lines.append(shlex.join(["nnUNetv2_preprocess", "-d", number, "-plans_name", base, "-c", *configurations]))
    return [*lines, *(_narrow(number, base, name, known) if base != name else [])]


def _plan(number: str, plans: Mapping[str, Any], base: str, configurations: Sequence[str]) -> list[str]:
    words = ["nnUNetv2_plan_and_preprocess", "-d", number, "-c", *configurations]
    planner = plans.get("experiment_planner_used", "ExperimentPlanner")
    if planner != "ExperimentPlanner":
        words += ["-pl", planner]
    elif base != "nnUNetPlans":
        words += ["-overwrite_plans_name", base]
    return [shlex.join(words)]


def _narrow(number: str, base: str, name: str, known: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the ``plan-mini`` that gives these widths, patches and batches."""
    words = ["nnunet-semisam", "plan-mini", "-d", number, "-p", base, "--name", name]
    widths = [one["architecture"]["arch_kwargs"]["features_per_stage"] for one in known.values()]
    longest = max(widths, key=len)
    words += ["--features", str(longest[0]), str(max(longest))]
    for content in known.values():
        axes = len(content["patch_size"])
        words += [f"--patch{axes}d", *map(str, content["patch_size"]), f"--batch{axes}d", str(content["batch_size"])]
    return [shlex.join(words)]


def split_commands(dataset: DatasetRecord, number: str, more: Sequence[str]) -> list[str]:
    """Return the ``split`` that made the folds; nothing if the converter made them."""
    made = dataset.split
    if not made:
        return []
    words = ["nnunet-semisam", "split", "-d", number, "--labeled", *map(str, made["labeled"])]
    words += ["--val", *_names(made["val"])]
    words += ["--seed", str(made.get("seed", 0)), *(["--group", made["group"]] if made.get("group") else [])]
    names = [name for line in made.get("order") or [] if (name := line.split("#")[0].strip())]
    order = ["--order", ORDER_FILE] if names else []
    replaced = ["--overwrite"] if dataset.manifest else []  # converters write folds, too
    return [*(_order_file(names) if names else []), shlex.join([*words, *order, *more, *replaced])]


def pool_command(benchmark: Benchmark, number: str) -> str:
    """Return the command that preprocesses the images of ``imagesUl``."""
    study = benchmark.study
    return shlex.join(
        ["nnunet-semisam", "preprocess", "-d", number, "-c", *study["configurations"], "-p", study["plans"]]
    )
