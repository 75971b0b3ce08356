"""Slice viewers: image, truth and every trainer side by side, one slider for all."""

from __future__ import annotations

import glob
import json
from pathlib import Path
from typing import Any

from nnunet_semisam.benchmark.metrics import INVENTED, MEAN, MISSED
from nnunet_semisam.report.drawing.html_parts import escape, paragraph
from nnunet_semisam.report.drawing.number_formats import number
from nnunet_semisam.report.drawing.sprites import LABEL_COLORS, gray_sprite, mask_sprite, target_size
from nnunet_semisam.report.reading.benchmark_folder import Benchmark
from nnunet_semisam.report.reading.dataset_labels import dataset_labels
from nnunet_semisam.report.reading.example_cases import Example, choose_examples
from nnunet_semisam.report.reading.volumes import MOST_SLICES, CaseVolumes, read_case

MOST_BYTES = 12_000_000  # of all pictures of a page
FEWEST_SLICES = 5
ORDINALS = {1: "first", 2: "second", 3: "third"}


def viewer_section(benchmark: Benchmark) -> str:
    """Return the viewers of all examples; fewer slices each where they would make the page too large."""
    examples = choose_examples(benchmark)
    if not examples:
        return paragraph("No run is done, so there is no segmentation to show.", "dim")
    share = MOST_BYTES // len(examples)
    parts, cell = [legend(benchmark)], None
    for i, example in enumerate(examples):
        run = example.runs[0]
        if cell != (run["configuration"], run["budget"]):
            cell = (run["configuration"], run["budget"])
            title = f"{cell[0]}, {cell[1]} labeled"
            parts.append(f'<h4>{escape(title)} <span class="dim">fold {run["fold"]}, seed {run["seed"]}</span></h4>')
        parts.append(viewer(benchmark, example, f"v{i}", share))
    return "".join(parts)


def viewer(benchmark: Benchmark, example: Example, name: str, most_bytes: int) -> str:
    """Return one viewer, or a sentence if the case's image or truth cannot be read."""
    head = f"<h5>{escape(example.case)} <span>{escape('; '.join(example.reasons))}</span></h5>"
    folder = _held_out_folder(benchmark, example.runs[0])
    image = next(iter(sorted((folder / "images").glob(f"{glob.escape(example.case)}_0000.*"))), None)
    if image is None:
        missing = f"The image of this case is not in {folder / 'images'}: the dataset has moved."
        return f'<figure class="viewer">{head}{paragraph(missing, "bad")}</figure>'
    ending = image.name.removeprefix(f"{example.case}_0000")
    paths = {"truth": folder / "labels" / f"{example.case}{ending}"}
    paths |= {run["run"]: benchmark.folder / run["predictions"] / f"{example.case}{ending}" for run in example.runs}
    try:
        volumes, pictures, size = _fitting(image, paths, most_bytes)
    except RuntimeError as error:
        return f'<figure class="viewer">{head}{paragraph(f"This case cannot be read: {error}", "bad")}</figure>'
    return f'<figure class="viewer" id="{name}" tabindex="-1">{head}' + _body(
        benchmark, example, name, volumes, pictures, size
    )


def _fitting(image: Path, paths: dict[str, Path], most_bytes: int) -> tuple[CaseVolumes, dict[str, str], tuple]:
    """Return a case and its pictures with as many slices as fit."""
    slices = MOST_SLICES
    while True:
        volumes = read_case(image, paths, slices)
        size = target_size(volumes.image.shape[1:], volumes.spacing_mm)
        pictures = {"image": gray_sprite(volumes.image, size)}
        pictures |= {key: mask_sprite(mask, size) for key, mask in volumes.masks.items() if mask is not None}
        total = sum(map(len, pictures.values()))
        if total <= most_bytes or slices <= FEWEST_SLICES:
            return volumes, pictures, size
        slices = max(FEWEST_SLICES, int(len(volumes.slices) * most_bytes / total))


def _body(
    benchmark: Benchmark, example: Example, name: str, volumes: CaseVolumes, pictures: dict[str, str], size: tuple
) -> str:
    shown, start = len(volumes.slices), _start(volumes)
    layers = [f"#{name} .layer{{aspect-ratio:{size[1]}/{size[0]};background-size:100% {100 * shown}%}}"]
    layers.append(f"#{name} .image{{background-image:url({pictures['image']})}}")
    keys = ["truth", *(run["run"] for run in example.runs)]
    layers += [
        f"#{name} .m{i}{{background-image:url({pictures[key]})}}" for i, key in enumerate(keys) if key in pictures
    ]
    panes = [_pane("image", "", None)]
    panes.append(_pane("truth", "", 0 if "truth" in pictures else None, missing="truth" not in pictures))
    for i, run in enumerate(example.runs, start=1):
        text = _dice_text(benchmark, run, example.case)
        there = run["run"] in pictures
        panes.append(_pane(benchmark.short(run["trainer"]), text, i if there else None, missing=not there))
    slider = (
        f'<label class="slices">slice <input type="range" min="0" max="{shown - 1}" value="{start}" step="1" '
        f'aria-label="Slice of {escape(example.case)}"> <output>{volumes.slices[start]}</output> of {volumes.total}'
        "</label>"
    )
    low, high = volumes.window
    along = f" along the file's {ORDINALS[volumes.axis]} axis" if volumes.total > 1 else ""
    note = f"Window {low:.4g} to {high:.4g}; {shown} of {volumes.total} slices{along}, cut to the foreground"
    note += "." if volumes.oriented else "; directions as in the file."
    return (
        f"<style>{''.join(layers)}</style>"
        f'<div class="panes" style="--i:{start};--n:{shown}" data-slices=\'{json.dumps(volumes.slices)}\'>'
        f'{"".join(panes)}</div><div class="controls">{slider}<label><input type="checkbox" class="toggle" checked> '
        f'masks</label></div><figcaption class="dim">{escape(note)}</figcaption></figure>'
    )


def _pane(title: str, text: str, layer: int | None, *, missing: bool = False) -> str:
    mask = f'<div class="layer mask m{layer}"></div>' if layer is not None else ""
    absent = '<p class="absent bad">no usable file</p>' if missing else ""
    return (
        f'<div class="pane"><div class="stack" role="img" aria-label="{escape(title)}"><div class="layer image"></div>'
        f"{mask}{absent}</div><p><b>{escape(title)}</b> {escape(text)}</p></div>"
    )


def _start(volumes: CaseVolumes) -> int:
    """Return the index of the slice with most true foreground; the middle one without a truth."""
    truth = volumes.masks.get("truth")
    if truth is None or not (truth > 0).any():
        return len(volumes.slices) // 2
    return int((truth > 0).reshape(len(truth), -1).sum(axis=1).argmax())


def _dice_text(benchmark: Benchmark, run: dict[str, Any], case: str) -> str:
    found = benchmark.scores[run["run"]].get(case)
    if not found:
        return ""
    parts = [f"Dice {number(found[MEAN, 'dice']['scored'], 'dice')}"]
    failed = [label for label in benchmark.labels if found[label, "dice"]["status"] in (MISSED, INVENTED)]
    return " ".join([*parts, *(f"· {label} {found[label, 'dice']['status']}" for label in failed)])


def _held_out_folder(benchmark: Benchmark, run: dict[str, Any]) -> Path:
    return benchmark.folder / benchmark.content["cases"]["folder"][str(run["fold"])]


def legend(benchmark: Benchmark) -> str:
    """Return which colour is which label."""
    items = []
    for label, values in dataset_labels(benchmark).items():
        swatches = "".join(f'<i style="background:{_css(one)}"></i>' for one in values)
        items.append(f"<li>{swatches}{escape(label)}</li>")
    return f'<ul class="legend labels">{"".join(items)}</ul>'


def _css(value: int) -> str:
    return f"rgb{LABEL_COLORS[(int(value) - 1) % len(LABEL_COLORS)]}"
