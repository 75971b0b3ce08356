"""The first part of the page: what was found, what speaks against believing it, curves, and means per class."""

from __future__ import annotations

from collections.abc import Sequence

from nnunet_semisam.report.drawing.html_parts import bullet_list, escape, paragraph
from nnunet_semisam.report.reading.benchmark_folder import Benchmark
from nnunet_semisam.report.reading.published import Anchors
from nnunet_semisam.report.sections.comparison import ALPHA, FEWEST_GROUPS
from nnunet_semisam.report.sections.efficiency import efficiency_chart
from nnunet_semisam.report.sections.findings import findings
from nnunet_semisam.report.sections.forest import forest_section, headline
from nnunet_semisam.report.sections.pairwise import pairwise_section
from nnunet_semisam.report.sections.result_tables import class_table

GLOSSARY = (
    "Dice in percent: overlap with the ground truth, 100 is perfect. HD95: the larger of the two directed 95th "
    "percentiles of surface distances. ASSD: mean distance of both surfaces. Volume error: absolute. The mean over "
    "labels leaves out labels that a case neither shows nor is said to show. A star marks a distance that is undefined "
    "because a label was missed or invented; it is scored as the image's diagonal. p: Wilcoxon signed-rank test over "
    "patients, two-sided, not corrected. Green and red: the interval of the difference leaves 0 out, and p is below "
    f"{ALPHA}, which takes {FEWEST_GROUPS} patients. Pairs: runs with the same fold and seed; differences rest on them."
)
CHART_NOTE = "Bars: 95 % bootstrap intervals over patients. Open dots: single runs where there are several"


def results_section(benchmark: Benchmark, anchors: Anchors, cautions: Sequence[str]) -> str:
    """Return findings, cautions, the label-efficiency curves and the table per class."""
    found = findings(benchmark) or ["No trainer has been compared with the baseline yet."]
    verdicts = paragraph(headline(benchmark), "headline") if headline(benchmark) else ""
    parts = [
        f'<div class="findings"><h3>What was found</h3>{verdicts}{forest_section(benchmark)}{bullet_list(found)}</div>',
        f'<div class="cautions"><h3>Before you believe it</h3>{bullet_list(cautions)}</div>',
    ]
    published = bool(anchors and anchors.results)
    for configuration in benchmark.study.configurations:
        chart = efficiency_chart(benchmark, configuration, anchors=anchors)
        parts.append(f'<div class="wide"><h3>Label efficiency, {escape(configuration)}</h3>{chart}</div>')
        parts.append(_charts_per_label(benchmark, configuration))
    parts += [
        paragraph(f"{CHART_NOTE}; in a colour of their own, publications." if published else f"{CHART_NOTE}.", "dim"),
        "<h3>Means over classes, and each class</h3>",
        paragraph(GLOSSARY, "dim"),
        class_table(benchmark),
        pairwise_section(benchmark),
    ]
    return "".join(parts)


def _charts_per_label(benchmark: Benchmark, configuration: str) -> str:
    if len(benchmark.labels) < 2:
        return ""
    charts = []
    for label in benchmark.labels:
        chart = efficiency_chart(benchmark, configuration, label)
        charts.append(f"<div><h4>{escape(label)}</h4>{chart}</div>")
    return f"<details><summary>Each label</summary><div class='grid2'>{''.join(charts)}</div></details>"
