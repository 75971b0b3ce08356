"""The label-efficiency curve: how good the trainers are with how many labeled patients."""

from __future__ import annotations

from nnunet_semisam.benchmark.metrics import MEAN
from nnunet_semisam.report.drawing.charts import Axes, Line, Point, line_chart
from nnunet_semisam.report.drawing.number_formats import FACTORS, count, interval, number, title
from nnunet_semisam.report.reading.benchmark_folder import Benchmark, GridCell
from nnunet_semisam.report.reading.published import Anchors

SHIFT = 0.018  # of x between trainers, so that intervals do not hide each other


def efficiency_chart(
    benchmark: Benchmark, configuration: str, label: str = MEAN, metric: str = "dice", anchors: Anchors | None = None
) -> str:
    """Return mean and 95 % interval of every trainer over the label budgets, and the mean of every single run.

    Args:
        benchmark: The results.
        configuration: One of its configurations.
        label: A label, or ``mean``.
        metric: What is on the y axis.
        anchors: Published mean Dice to show as dots.
    """
    lines = [_line(benchmark, configuration, trainer, label, metric) for trainer in benchmark.trainers]
    if anchors and anchors.results:
        lines.append(_published(anchors, len(benchmark.trainers)))
    what = "mean over labels" if label == MEAN else label
    name = f"{title(metric, benchmark.units)} ({what})"
    axes = Axes(
        title=f"{name} over the number of labeled patients, {configuration}",
        x="labeled patients",
        y=name,
        x_ticks=benchmark.budgets,
        log_x=min(benchmark.budgets) > 0 and len(benchmark.budgets) > 1,
    )
    return line_chart(lines, axes)


def _published(anchors: Anchors, index: int) -> Line:
    shift = 1 + SHIFT * (index + 1) / 2
    dots = []
    for budget, results in anchors.results.items():
        for one in results:
            dots.append(Point(budget * shift, one.dice, title=f"{one.method}: {one.dice:g} (published)"))
    name = f"published on this split ({anchors.name})"
    if anchors.limits:
        name += "; small networks or short trainings here: do not compare"
    return Line(name, [], index, dots=dots)


def _line(benchmark: Benchmark, configuration: str, trainer: str, label: str, metric: str) -> Line:
    index = benchmark.trainers.index(trainer)
    shift = 1 + SHIFT * (index - (len(benchmark.trainers) - 1) / 2)
    factor = FACTORS.get(metric, 1.0)
    points = []
    dots = []
    for budget in benchmark.budgets:
        summary = benchmark.summary(GridCell(configuration, budget, trainer), label, metric)
        if summary is None or summary.mean is None:
            continue
        x = budget * shift
        text = (
            f"{benchmark.short(trainer)}, {budget} labeled: {interval(summary, metric)}; "
            f"{count(summary.cases, 'case')} of {count(summary.groups, 'patient')}, {count(summary.runs, 'run')}"
        )
        low = None if summary.low is None else summary.low * factor
        high = None if summary.high is None else summary.high * factor
        points.append(Point(x, summary.mean * factor, low, high, text))
        means = [mean for mean in summary.run_means if mean is not None]
        if len(means) > 1:
            dots += [Point(x, mean * factor, title=f"one run: {number(mean, metric)}") for mean in means]
    return Line(benchmark.short(trainer), points, index, dashed=index == 0, markers=True, dots=dots)
