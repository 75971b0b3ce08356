"""Tables for a README: what was found, with n and intervals, and published results where they compare."""

from __future__ import annotations

from nnunet_semisam.benchmark.metrics import MEAN
from nnunet_semisam.report.drawing.number_formats import NONE, count, interval, p_value, title
from nnunet_semisam.report.reading.benchmark_folder import Benchmark
from nnunet_semisam.report.reading.inactive_runs import unused_cases
from nnunet_semisam.report.reading.published import Anchors, find_anchors
from nnunet_semisam.report.reading.training_cases import read_dataset
from nnunet_semisam.report.reading.training_logs import read_terms
from nnunet_semisam.report.sections.findings import cautions, data_notes
from nnunet_semisam.report.sections.published import caution, notes
from nnunet_semisam.training.training_log import CSV_NAME

NUMBERS = 3  # columns of words before those of numbers
PUBLISHED_HEAD = ("labeled", "published method", "Dice, %", "remark", "from")


def markdown(benchmark: Benchmark) -> str:
    """Return the table with a caption and the cautions, and then the published results."""
    dataset = read_dataset(benchmark)
    terms = {run["run"]: read_terms(benchmark.folder / run["training"] / CSV_NAME) for run in benchmark.runs}
    doubts = unused_cases(benchmark, terms) + cautions(benchmark) + data_notes(dataset)
    groups = set(benchmark.content["cases"]["groups"].values())
    cases = count(len(benchmark.content["cases"]["groups"]), "held-out case")
    head = ("configuration", "labeled", "trainer", "Dice, %", "against nnU-Net", "p", title("hd95", benchmark.units))
    head += ("failures", "runs", "pairs")
    lines = [
        f"{benchmark.study['dataset']}: mean over labels on {cases} of {count(len(groups), 'patient')} "
        f"({benchmark.study['cases']}), with 95 % bootstrap intervals over patients; p: Wilcoxon test over patients; "
        "pairs: runs with the same fold and seed, which differences rest on.",
        "",
        _row(head),
        _row(["---"] * NUMBERS + ["---:"] * (len(head) - NUMBERS)),
        *(_row(_values(benchmark, *cell)) for cell in benchmark.grid()),
        "",
        *(f"- {text}" for text in doubts),
        "",
        *published_lines(find_anchors(benchmark, dataset)),
    ]
    return "\n".join(lines) + "\n"


def _values(benchmark: Benchmark, configuration: str, budget: int, trainer: str) -> tuple[object, ...]:
    dice = benchmark.cell(configuration, budget, trainer, MEAN, "dice")
    hd95 = benchmark.cell(configuration, budget, trainer, MEAN, "hd95")
    difference = dice["difference"]
    name = "nnU-Net" if trainer == benchmark.baseline else f"`{trainer}`"
    return (
        *(configuration, budget, name, interval(dice, "dice"), interval(difference, "dice", "+")),
        *(p_value(difference and difference["p"]), interval(hd95, "hd95"), dice["failures"], dice["runs"]),
        difference["pairs"] if difference else NONE,
    )


def published_lines(anchors: Anchors) -> list[str]:
    """Return the published results with their sources, or why there are none."""
    lines = [*([caution(anchors), ""] if anchors.limits else []), "\n\n".join(notes(anchors))]
    found = [one for budget in anchors.results for one in sorted(anchors.results[budget], key=lambda one: one["dice"])]
    rows = [
        _row((one["budget"], one["method"], f"{one['dice']:g}", one["note"] or NONE, one["source"]))
        for one in [*found, *anchors.bounds]
    ]
    if rows:
        lines += ["", _row(PUBLISHED_HEAD), _row(("---:", "---", "---:", "---", "---")), *rows]
    return lines


def _row(values: object) -> str:
    return "| " + " | ".join(str(value).replace("|", "\\|") for value in values) + " |"
