"""The ratios that all figures are for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STOCK = "nnU-Net"
ARM_OF_REFERENCE = "baseline"


def summary(tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what is worth a line, of the tasks that have figures.

    Args:
        tasks: Records by name; see :mod:`benchmarks.gpu.runner`.
    """
    figures = {name: task["figures"] for name, task in tasks.items() if task.get("figures")}
    found: dict[str, Any] = {}
    for configuration in ("2d", "3d_fullres"):
        found |= _step(figures, configuration)
    if "sync.2d" in figures and figures["sync.2d"]["counted"]:
        found["synchronisations a step, 2d"] = figures["sync.2d"]["a_step"]
    for model in ("nano", "vit_b"):
        if f"stage.{model}" in figures:
            rounds = figures[f"stage.{model}"]["rounds"]
            found[f"stage, {model}"] = {
                name: {key: each[key] for key in ("seconds_per_case", "share_of_training")}
                for name, each in rounds.items()
            }
    if "nano.pretrain" in figures:
        found["nano pretraining, seconds a step"] = figures["nano.pretrain"]["seconds_per_step"]
    return found | _trainings(figures)


def _step(figures: Mapping[str, Mapping[str, Any]], configuration: str) -> dict[str, Any]:
    found = {}
    if f"step.{configuration}" in figures:
        trainers = figures[f"step.{configuration}"]["trainers"]
        found[f"seconds a step, {configuration}"] = {name: each["seconds"] for name, each in trainers.items()}
        found[f"time of a step : nnU-Net, {configuration}"] = {n: e["time_ratio"] for n, e in trainers.items()}
    start = f"step.memory_{configuration}_"
    peaks = {name.removeprefix(start): each["net"] for name, each in figures.items() if name.startswith(start)}
    if STOCK in peaks:
        found[f"peak memory : nnU-Net, {configuration}"] = {n: peak / peaks[STOCK] for n, peak in peaks.items()}
    return found


def _trainings(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return Dice at equal steps, the difference to the baseline there, and Dice against seconds of training."""
    curves = {
        name.removeprefix("training."): each["checkpoints"]
        for name, each in figures.items()
        if name.startswith("training.")
    }
    if not any(curves.values()):
        return {}
    at_steps: dict[str, dict[str, float]] = {}
    for arm, checkpoints in curves.items():
        for each in checkpoints:
            at_steps.setdefault(str(each["steps"]), {})[arm] = each["mean_dice"]
    gains = {
        steps: {arm: dice - arms[ARM_OF_REFERENCE] for arm, dice in arms.items() if arm != ARM_OF_REFERENCE}
        for steps, arms in at_steps.items()
        if ARM_OF_REFERENCE in arms
    }
    by_seconds = {arm: [(c["training_seconds"], c["mean_dice"]) for c in each] for arm, each in curves.items()}
    return {"dice at equal steps": at_steps, "dice above the baseline": gains, "dice by seconds": by_seconds}


def as_text(content: Mapping[str, Any], indent: int = 0) -> str:
    """Return a summary as lines."""
    lines = []
    for name, value in content.items():
        if isinstance(value, Mapping):
            lines += [f"{'  ' * indent}{name}:", as_text(value, indent + 1)]
        else:
            lines.append(f"{'  ' * indent}{name}: {_short(value)}")
    return "\n".join(line for line in lines if line)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_short(each) for each in value)
    return str(value)
