"""The page: one HTML file that needs no network and no other file."""

from __future__ import annotations

import string
import time
from dataclasses import dataclass
from pathlib import Path

from nnunet_semisam import __version__
from nnunet_semisam.benchmark.records import CaseSet
from nnunet_semisam.report.drawing.html_parts import escape
from nnunet_semisam.report.drawing.number_formats import count
from nnunet_semisam.report.reading.benchmark_folder import Benchmark
from nnunet_semisam.report.reading.published import find_anchors
from nnunet_semisam.report.reading.sam_rounds import read_rounds
from nnunet_semisam.report.reading.training_cases import read_dataset
from nnunet_semisam.report.reading.training_logs import read_trainings
from nnunet_semisam.report.sections.cases import all_cases_section, viewers_section
from nnunet_semisam.report.sections.cautions import all_cautions
from nnunet_semisam.report.sections.cost import cost_section
from nnunet_semisam.report.sections.published import published_section
from nnunet_semisam.report.sections.repeat import repeat_section
from nnunet_semisam.report.sections.results import results_section
from nnunet_semisam.report.sections.sam import sam_section
from nnunet_semisam.report.sections.setup import setup_section
from nnunet_semisam.report.sections.training import training_section

ASSETS = Path(__file__).with_name("assets")
SCRIPTS = ("page.js", "viewers.js", "downloads.js")
JUDGED_ON = {CaseSet.TEST: "test set", CaseSet.VAL: "validation cases of the folds"}


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        name: Identifier, for links.
        title: What it is called in the menu.
        content: HTML.
        in_summary: Whether it is printed without being asked for.
    """

    name: str
    title: str
    content: str
    in_summary: bool = False


def render(benchmark: Benchmark) -> str:
    """Return the page."""
    links = []
    parts = []
    for section in _sections(benchmark):
        title = escape(section.title)
        links.append(f'<a href="#{section.name}">{title}</a>')
        kind = ' class="summary"' if section.in_summary else ""
        parts.append(f'<section id="{section.name}"{kind}><h2>{title}</h2>\n{section.content}</section>')
    template = string.Template((ASSETS / "page.html").read_text(encoding="utf-8"))
    made = time.strftime("%Y-%m-%d %H:%M %Z")
    return template.substitute(
        title=escape(f"{benchmark.study.dataset}: how far few labels go"),
        facts=escape(_facts(benchmark)),
        nav="".join(links),
        content="\n".join(parts),
        footer=escape(f"Made by nnunet-semisam {__version__} on {made} from {benchmark.folder.name}/results.json."),
        css=(ASSETS / "page.css").read_text(encoding="utf-8"),
        js="\n".join((ASSETS / name).read_text(encoding="utf-8") for name in SCRIPTS),
    )


def _sections(benchmark: Benchmark) -> list[Section]:
    """Return all parts in their order; the first one is made last, since it says what could not be read for others."""
    trainings = read_trainings(benchmark)
    sam = read_rounds(benchmark)
    dataset = read_dataset(benchmark)
    anchors = find_anchors(benchmark, dataset)
    others = [
        Section("published", "Published results", published_section(benchmark, anchors)),
        Section("cases", "Cases to look at", viewers_section(benchmark)),
        Section("tables", "All cases", all_cases_section(benchmark)),
        Section("training", "Trainings", training_section(benchmark, trainings)),
        Section("sam", "SAM", sam_section(benchmark, sam)),
        Section("cost", "Cost", cost_section(benchmark), in_summary=True),
        Section("setup", "Setup", setup_section(benchmark, dataset)),
        Section("repeat", "Repeat it", repeat_section(benchmark, dataset)),
    ]
    cautions = all_cautions(benchmark, dataset, trainings)
    return [Section("results", "Results", results_section(benchmark, anchors, cautions), in_summary=True), *others]


def _facts(benchmark: Benchmark) -> str:
    """Return what was compared, in one line."""
    study = benchmark.study
    cases = f"{count(benchmark.num_cases, 'held-out case')} of {count(benchmark.num_patients, 'patient')}"
    done = sum(run.is_done for run in benchmark.runs)
    facts = [
        f"{cases} ({JUDGED_ON[study.cases]})",
        ", ".join(study.configurations),
        f"{', '.join(map(str, benchmark.budgets))} labeled",
        count(len(benchmark.trainers), "trainer"),
        count(len(study.seeds), "seed"),
        f"{done} of {count(len(benchmark.runs), 'run')} done",
    ]
    return " · ".join(facts)
