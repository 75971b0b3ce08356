"""Held-out cases: viewers of some, and a table of all."""

from __future__ import annotations

from nnunet_semisam.report.drawing.html_parts import escape, paragraph
from nnunet_semisam.report.drawing.viewers import legend, viewer
from nnunet_semisam.report.reading.benchmark_folder import Benchmark
from nnunet_semisam.report.reading.example_cases import choose_examples
from nnunet_semisam.report.sections.result_tables import case_table

MOST_BYTES = 12_000_000  # of all pictures of a page
VIEWERS_NOTE = (
    "Chosen by number alone, from held-out cases: the worst, the median and the best by the Dice of the last trainer, "
    "and the one where it loses most against nnU-Net. Arrow keys page through the slices; click a picture, and the "
    "wheel does, too, or zooms with Ctrl, and a zoomed picture can be dragged."
)
TABLE_NOTE = (
    "A row per run and held-out case. Sort by a column's head; the field filters by words, such as a case's name. "
    "Names of cases that have a viewer lead to it."
)


def viewers_section(benchmark: Benchmark) -> str:
    """Return the viewers of all examples; fewer slices each where they would make the page too large."""
    examples = choose_examples(benchmark)
    if not examples:
        return paragraph(VIEWERS_NOTE) + paragraph("No run is done, so there is no segmentation to show.", "dim")
    share = MOST_BYTES // len(examples)
    parts = [paragraph(VIEWERS_NOTE), legend(benchmark)]
    shown = None
    for i, example in enumerate(examples):
        run = example.runs[0]
        if shown != (run.configuration, run.budget):
            shown = (run.configuration, run.budget)
            title = escape(f"{run.configuration}, {run.budget} labeled")
            parts.append(f'<h4>{title} <span class="dim">fold {run.fold}, seed {run.seed}</span></h4>')
        parts.append(viewer(benchmark, example, f"v{i}", share))
    return "".join(parts)


def all_cases_section(benchmark: Benchmark) -> str:
    """Return the table of all cases."""
    viewers = {
        (example.runs[0].configuration, example.runs[0].budget, example.case): f"v{i}"
        for i, example in enumerate(choose_examples(benchmark))
    }
    return paragraph(TABLE_NOTE) + case_table(benchmark, viewers)
