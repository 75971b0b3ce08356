"""A table for a README: what was found, with n and intervals."""

from __future__ import annotations

from nnunet_semisam.benchmark.metrics import MEAN
from nnunet_semisam.report.benchmark_folder import Benchmark
from nnunet_semisam.report.findings import cautions
from nnunet_semisam.report.formats import count, interval, p_value

HEAD = ("configuration", "labeled", "trainer", "Dice, %", "against nnU-Net", "p", "HD95, mm", "failures", "runs")


def markdown(benchmark: Benchmark) -> str:
    """Return the table with a caption and the cautions."""
    groups = set(benchmark.content["cases"]["groups"].values())
    cases = count(len(benchmark.content["cases"]["groups"]), "held-out case")
    lines = [
        f"{benchmark.study['dataset']}: mean over labels on {cases} of {count(len(groups), 'patient')} "
        f"({benchmark.study['cases']}), with 95 % bootstrap intervals over patients; p: Wilcoxon test over patients.",
        "",
        _row(HEAD),
        _row(["---"] * 3 + ["---:"] * (len(HEAD) - 3)),
    ]
    for configuration, budget, trainer in benchmark.grid():
        dice = benchmark.cell(configuration, budget, trainer, MEAN, "dice")
        hd95 = benchmark.cell(configuration, budget, trainer, MEAN, "hd95")
        difference = dice["difference"]
        name = "nnU-Net" if trainer == benchmark.baseline else f"`{trainer}`"
        values = (
            *(configuration, budget, name, interval(dice, "dice"), interval(difference, "dice", "+")),
            *(p_value(difference and difference["p"]), interval(hd95, "hd95"), dice["failures"], dice["runs"]),
        )
        lines.append(_row(values))
    return "\n".join([*lines, "", *(f"- {text}" for text in cautions(benchmark))]) + "\n"


def _row(values: object) -> str:
    return "| " + " | ".join(str(value).replace("|", "\\|") for value in values) + " |"
