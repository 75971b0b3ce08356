"""Slice viewers: image, ground truth and every trainer side by side, one slider for all."""

from __future__ import annotations

import glob
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nnunet_semisam.benchmark.metrics import MEAN
from nnunet_semisam.benchmark.records import RunRecord, ScoreStatus
from nnunet_semisam.errors import UserError
from nnunet_semisam.report.drawing.html_parts import escape, paragraph
from nnunet_semisam.report.drawing.number_formats import number
from nnunet_semisam.report.drawing.sprites import (
    FILL_OPACITY,
    LABEL_COLORS,
    css_color,
    gray_sprite,
    mask_sprite,
    target_size,
)
from nnunet_semisam.report.reading.benchmark_folder import Benchmark
from nnunet_semisam.report.reading.damage import without_folders
from nnunet_semisam.report.reading.dataset_labels import dataset_labels
from nnunet_semisam.report.reading.example_cases import Example
from nnunet_semisam.report.reading.links import refuse_link_out
from nnunet_semisam.report.reading.volumes import GROUND_TRUTH, MOST_SLICES, CaseVolumes, read_case

FEWEST_SLICES = 5
ORDINALS = {1: "first", 2: "second", 3: "third"}


@dataclass(frozen=True)
class CasePictures:
    """A case that is ready to be drawn.

    Attributes:
        volumes: Its image and label maps.
        image: All slices in one picture, as a data URI.
        masks: Source -> all slices of its label map likewise; sources without a usable file are left out.
        size: Height and width of a slice in pixels.
    """

    volumes: CaseVolumes
    image: str
    masks: Mapping[str, str]
    size: tuple[int, int]

    @property
    def num_bytes(self) -> int:
        """Return the size of all pictures."""
        return len(self.image) + sum(len(mask) for mask in self.masks.values())


def viewer(benchmark: Benchmark, example: Example, name: str, most_bytes: int) -> str:
    """Return one viewer, or a sentence if the case's image or ground truth cannot be read.

    Args:
        benchmark: The results.
        example: The case and its runs.
        name: Identifier of the viewer on the page.
        most_bytes: Size of its pictures; slices are left out where they would be larger.
    """
    rows = f'<button type="button" class="rows" data-case="{escape(example.case)}">its rows in the table</button>'
    head = f"<h5>{escape(example.case)} <span>{escape('; '.join(example.reasons))}</span> {rows}</h5>"
    place = benchmark.held_out.folders[example.runs[0].fold]
    folder = benchmark.folder / place
    images = sorted((folder / "images").glob(f"{glob.escape(example.case)}_0000.*"))
    if not images:
        missing = f"The image of this case is not in {place}/images: the dataset has moved."
        benchmark.damage.note("images of shown cases", example.case, f"not in {place}/images, the dataset has moved")
        return f'<figure class="viewer" id="{name}">{head}{paragraph(missing, "bad")}</figure>'
    image = images[0]
    ending = image.name.removeprefix(f"{example.case}_0000")
    masks = {GROUND_TRUTH: folder / "labels" / f"{example.case}{ending}"}
    for run in example.runs:
        masks[run.name] = benchmark.folder / run.predictions / f"{example.case}{ending}"
    try:
        pictures = _fitting_pictures(image, _without_links_out(benchmark, masks), most_bytes)
    except (ValueError, RuntimeError, MemoryError) as error:  # UserError, and what SimpleITK has of odd headers
        benchmark.damage.note("images of shown cases", example.case, error)
        why = without_folders(f"This case cannot be read: {error}", benchmark.folder)
        return f'<figure class="viewer" id="{name}">{head}{paragraph(why, "bad")}</figure>'
    for source, why in pictures.volumes.problems.items():
        benchmark.damage.note("label maps of shown cases", f"{example.case}, {source}", why)
    content = (
        _style(name, example, pictures)
        + _panes(benchmark, example, pictures.masks, pictures.volumes)
        + _controls(example, pictures.volumes, dataset_labels(benchmark))
        + f'<figcaption class="dim">{escape(_note(pictures.volumes))}</figcaption>'
    )
    return f'<figure class="viewer" id="{name}" tabindex="-1">{head}{content}</figure>'


def _without_links_out(benchmark: Benchmark, masks: Mapping[str, Path]) -> dict[str, Path]:
    """Return the label maps without predictions that are links out of the benchmark, which are noted.

    Images and ground truth are links to the dataset: they may lead anywhere.
    """
    found = {}
    for source, path in masks.items():
        try:
            if source != GROUND_TRUTH:
                refuse_link_out(path, benchmark.folder)
            found[source] = path
        except UserError as error:
            benchmark.damage.note("label maps of shown cases", f"{path.name}, {source}", error)
    return found


def _fitting_pictures(image: Path, masks: Mapping[str, Path], most_bytes: int) -> CasePictures:
    """Return a case and its pictures with as many slices as fit."""
    slices = MOST_SLICES
    while True:
        pictures = _pictures(read_case(image, masks, slices))
        total = pictures.num_bytes
        if total <= most_bytes or slices <= FEWEST_SLICES:
            return pictures
        slices = max(FEWEST_SLICES, int(len(pictures.volumes.slices) * most_bytes / total))


def _pictures(volumes: CaseVolumes) -> CasePictures:
    size = target_size(volumes.image.shape[1:], volumes.spacing_mm)
    masks = {name: mask_sprite(mask, size) for name, mask in volumes.masks.items() if mask is not None}
    return CasePictures(volumes, gray_sprite(volumes.image, size), masks, size)


def _sources(example: Example) -> list[str]:
    """Return the sources of label maps in the order of their panes."""
    return [GROUND_TRUTH, *(run.name for run in example.runs)]


def _style(name: str, example: Example, pictures: CasePictures) -> str:
    """Return the style sheet that holds the pictures: each is embedded once."""
    height, width = pictures.size
    shown = len(pictures.volumes.slices)
    layers = [
        f"#{name} .layer{{aspect-ratio:{width}/{height};background-size:100% {100 * shown}%}}",
        f"#{name} .image{{background-image:url({pictures.image})}}",
    ]
    for i, source in enumerate(_sources(example)):
        if source in pictures.masks:
            layers.append(f"#{name} .m{i}{{background-image:url({pictures.masks[source]})}}")
    return f"<style>{''.join(layers)}</style>"


def _panes(benchmark: Benchmark, example: Example, masks: Mapping[str, str], volumes: CaseVolumes) -> str:
    panes = [_pane("image", "", ""), _pane(GROUND_TRUTH, "", _mask_layer(0, GROUND_TRUTH in masks))]
    for i, run in enumerate(example.runs, start=1):
        text = _dice_text(benchmark, run, example.case)
        panes.append(_pane(benchmark.short(run.trainer), text, _mask_layer(i, run.name in masks)))
    return (
        f'<div class="panes" style="--i:{_first_slice(volumes)};--n:{len(volumes.slices)}" '
        f"data-slices='{json.dumps(volumes.slices)}' data-colors='{json.dumps(LABEL_COLORS)}'>{''.join(panes)}</div>"
    )


def _pane(title: str, text: str, mask: str) -> str:
    return (
        f'<div class="pane"><div class="stack" role="img" aria-label="{escape(title)}"><div class="layer image"></div>'
        f"{mask}</div><p><b>{escape(title)}</b> {escape(text)}</p></div>"
    )


def _mask_layer(index: int, is_there: bool) -> str:
    if not is_there:
        return '<p class="absent bad">no usable file</p>'
    return f'<div class="layer mask m{index}"></div>'


def _controls(example: Example, volumes: CaseVolumes, labels: Mapping[str, list[int]]) -> str:
    start = _first_slice(volumes)
    slider = (
        f'<label class="slices">slice <input type="range" min="0" max="{len(volumes.slices) - 1}" value="{start}" '
        f'step="1" aria-label="Slice of {escape(example.case)}"> <output>{volumes.slices[start]}</output> of '
        f"{volumes.total}</label>"
    )
    toggle = '<label><input type="checkbox" class="toggle" checked> masks</label>'
    return f'<div class="controls">{slider}{toggle}</div>{_tools(labels)}'


def _tools(labels: Mapping[str, list[int]]) -> str:
    """Return what changes how masks are drawn: which labels, how opaque, contours, ground truth, zoom."""
    boxes = []
    for label, values in labels.items():
        colors = sorted({(value - 1) % len(LABEL_COLORS) for value in values})
        swatches = "".join(f'<i style="background:{css_color(color + 1)}"></i>' for color in colors)
        places = " ".join(map(str, colors))
        boxes.append(
            f'<label><input type="checkbox" class="label" data-colors="{places}" checked>{swatches}{escape(label)}'
            "</label>"
        )
    opacity = round(100 * FILL_OPACITY / 255)
    return (
        f'<div class="controls tools"><fieldset aria-label="Labels">{"".join(boxes)}</fieldset>'
        f'<label>opacity <input type="range" class="opacity" min="0" max="100" value="{opacity}"></label>'
        '<label><input type="checkbox" class="contours"> contours only</label>'
        '<label><input type="checkbox" class="truth"> ground truth over predictions</label>'
        '<span>zoom <button type="button" class="zoom-out" aria-label="Zoom out">\u2212</button> '
        '<button type="button" class="zoom-in" aria-label="Zoom in">+</button> '
        '<button type="button" class="zoom-reset">reset</button></span></div>'
    )


def _note(volumes: CaseVolumes) -> str:
    low, high = volumes.window
    along = f" along the file's {ORDINALS[volumes.axis]} axis" if volumes.total > 1 else ""
    end = "." if volumes.oriented else "; directions as in the file."
    return (
        f"Window {low:.4g} to {high:.4g}; {len(volumes.slices)} of {volumes.total} slices{along}, cut to the "
        f"foreground{end}"
    )


def _first_slice(volumes: CaseVolumes) -> int:
    """Return the index of the slice with most foreground in the ground truth; the middle one without a ground truth."""
    mask = volumes.masks.get(GROUND_TRUTH)
    if mask is None or not (mask > 0).any():
        return len(volumes.slices) // 2
    voxels = (mask > 0).reshape(len(mask), -1).sum(axis=1)
    return int(voxels.argmax())


def _dice_text(benchmark: Benchmark, run: RunRecord, case: str) -> str:
    scores = benchmark.scores_by_run[run.name].get(case)
    if not scores:
        return ""
    parts = [f"Dice {number(scores[MEAN, 'dice'].scored, 'dice')}"]
    for label in benchmark.labels:
        status = scores[label, "dice"].status
        if status in (ScoreStatus.MISSED, ScoreStatus.INVENTED):
            parts.append(f"· {label} {status.value}")
    return " ".join(parts)


def legend(benchmark: Benchmark) -> str:
    """Return which colour is which label."""
    items = []
    for label, values in dataset_labels(benchmark).items():
        swatches = "".join(f'<i style="background:{css_color(value)}"></i>' for value in values)
        items.append(f"<li>{swatches}{escape(label)}</li>")
    return f'<ul class="legend labels">{"".join(items)}</ul>'
