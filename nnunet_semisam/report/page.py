"""The page: one HTML file that needs no network and no other file."""

from __future__ import annotations

import string
import time
from pathlib import Path

from nnunet_semisam import __version__
from nnunet_semisam.benchmark.tasks import DONE
from nnunet_semisam.report.drawing.html_parts import escape, paragraph
from nnunet_semisam.report.drawing.number_formats import count
from nnunet_semisam.report.drawing.viewers import viewer_section
from nnunet_semisam.report.reading.benchmark_folder import Benchmark
from nnunet_semisam.report.reading.inactive_runs import unused_cases
from nnunet_semisam.report.reading.published import Anchors, find_anchors
from nnunet_semisam.report.reading.software import versions_part
from nnunet_semisam.report.reading.training_cases import read_dataset
from nnunet_semisam.report.reading.training_logs import read_training
from nnunet_semisam.report.sections import result_tables
from nnunet_semisam.report.sections import setup as setup_section
from nnunet_semisam.report.sections.comparison import ALPHA, FEWEST_GROUPS
from nnunet_semisam.report.sections.cost import cost_section
from nnunet_semisam.report.sections.efficiency import efficiency_chart
from nnunet_semisam.report.sections.findings import cautions, data_notes, findings
from nnunet_semisam.report.sections.published import published_section
from nnunet_semisam.report.sections.repeat import commands_part
from nnunet_semisam.report.sections.sam import sam_section
from nnunet_semisam.report.sections.training import training_section

ASSETS = Path(__file__).with_name("assets")
GLOSSARY = (
    "Dice in percent: overlap with the truth, 100 is perfect. HD95: the larger of the two directed 95th percentiles of "
    "surface distances. ASSD: mean distance of both surfaces. Volume error: absolute. The mean over "
    "labels leaves out labels that a case neither shows nor is said to show. A star marks a distance that is undefined "
    "because a label was missed or invented; it is scored as the image's diagonal. p: Wilcoxon signed-rank test over "
    "patients, two-sided, not corrected. Green and red: the interval of the difference leaves 0 out, and p is below "
    f"{ALPHA}, which takes {FEWEST_GROUPS} patients. Pairs: runs with the same fold and seed; differences rest on them."
)

CASE_NOTE = (
    "A row per run and held-out case. Sort by a column's head; the field filters by words, such as a case's name."
)


def write_page(benchmark: Benchmark, path: Path) -> int:
    """Write the page; return its size in bytes."""
    text = render(benchmark).encode("utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text)
    return len(text)


def render(benchmark: Benchmark) -> str:
    """Return the page."""
    sections = _sections(benchmark)
    body = "\n".join(
        f'<section id="{name}"><h2>{escape(title)}</h2>\n{content}</section>' for name, title, content in sections
    )
    nav = "".join(f'<a href="#{name}">{escape(title)}</a>' for name, title, _ in sections)
    template = string.Template((ASSETS / "page.html").read_text(encoding="utf-8"))
    made = time.strftime("%Y-%m-%d %H:%M %Z")
    return template.substitute(
        title=escape(f"{benchmark.study['dataset']}: how far few labels go"),
        facts=escape(_facts(benchmark)),
        nav=nav,
        content=body,
        footer=escape(f"Made by nnunet-semisam {__version__} on {made} from {benchmark.folder.name}/results.json."),
        css=(ASSETS / "page.css").read_text(encoding="utf-8"),
        js=(ASSETS / "page.js").read_text(encoding="utf-8"),
    )


def _sections(benchmark: Benchmark) -> list[tuple[str, str, str]]:
    records = {run["run"]: read_training(benchmark.folder / run["training"]) for run in benchmark.runs}
    dataset = read_dataset(benchmark)
    anchors = find_anchors(benchmark, dataset)
    unused = unused_cases(benchmark, {name: record.terms for name, record in records.items()})
    doubts = unused + cautions(benchmark) + data_notes(dataset)
    setup = (
        f"<h3>Configuration</h3>{setup_section.configuration_part(benchmark)}"
        f"<h3>Versions and machines</h3>{versions_part(benchmark)}"
        f"<h3>Provenance</h3>{setup_section.provenance_part(benchmark, dataset)}"
    )
    return [
        ("results", "Results", _results(benchmark, anchors, doubts)),
        ("published", "Published results", published_section(benchmark, anchors)),
        ("cases", "Cases to look at", _cases(benchmark)),
        ("tables", "All cases", paragraph(CASE_NOTE) + result_tables.case_table(benchmark)),
        ("training", "Trainings", training_section(benchmark, records)),
        ("sam", "SAM", sam_section(benchmark, records)),
        ("cost", "Cost", cost_section(benchmark)),
        ("setup", "Setup", setup),
        ("repeat", "Repeat it", commands_part(benchmark, dataset)),
    ]


def _results(benchmark: Benchmark, anchors: Anchors, doubts: list[str]) -> str:
    said = findings(benchmark) or ["No trainer has been compared with the baseline yet."]
    charts = "".join(
        f'<div class="wide"><h3>Label efficiency, {escape(configuration)}</h3>'
        f"{efficiency_chart(benchmark, configuration, anchors=anchors)}</div>" + _per_label(benchmark, configuration)
        for configuration in benchmark.study["configurations"]
    )
    note = "Bars: 95 % bootstrap intervals over patients. Open dots: single runs where there are several; publications."
    return (
        f'<div class="findings"><h3>What was found</h3>{_list(said)}</div>'
        f'<div class="cautions"><h3>Before you believe it</h3>{_list(doubts)}</div>'
        f"{charts}{paragraph(note, 'dim')}<h3>Per class</h3>{paragraph(GLOSSARY, 'dim')}"
        f"{result_tables.class_table(benchmark)}"
    )


def _per_label(benchmark: Benchmark, configuration: str) -> str:
    if len(benchmark.labels) < 2:
        return ""
    charts = "".join(
        f"<div><h4>{escape(label)}</h4>{efficiency_chart(benchmark, configuration, label)}</div>"
        for label in benchmark.labels
    )
    return f"<details><summary>Each label</summary><div class='grid2'>{charts}</div></details>"


def _cases(benchmark: Benchmark) -> str:
    text = (
        "Chosen by number alone, from held-out cases: the worst, the median and the best by the Dice of the last "
        "trainer, and the one where it loses most against nnU-Net. Arrow keys page through the slices."
    )
    return paragraph(text) + viewer_section(benchmark)


def _facts(benchmark: Benchmark) -> str:
    groups = set(benchmark.content["cases"]["groups"].values())
    done = sum(run["status"] == DONE for run in benchmark.runs)
    judged = f"{count(len(benchmark.content['cases']['groups']), 'held-out case')} of {count(len(groups), 'patient')}"
    return (
        f"{judged} ({'test set' if benchmark.study['cases'] == 'test' else 'validation cases of the folds'}) · "
        f"{', '.join(benchmark.study['configurations'])} · {', '.join(map(str, benchmark.budgets))} labeled · "
        f"{count(len(benchmark.trainers), 'trainer')} · {count(len(benchmark.study['seeds']), 'seed')} · "
        f"{done} of {count(len(benchmark.runs), 'run')} done"
    )


def _list(texts: list[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>"
