"""The page of suggestions: one HTML file with the slices that matter of each suggested case."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from nnunet_semisam.annotation.raw_space import read_image
from nnunet_semisam.annotation.suggest import map_file
from nnunet_semisam.annotation.suggestions import Suggestion
from nnunet_semisam.io.atomic import write_text
from nnunet_semisam.report.drawing.html_parts import escape
from nnunet_semisam.report.drawing.sprites import LABEL_COLORS, css_color, outline, target_size
from nnunet_semisam.report.reading.volumes import array_spacing, as_slices, in_file, orient

SLICES = 3  # of a case
PERCENTILES = (1, 99)  # of the intensities of a case, black and white
LONGEST = 240  # pixels
UNSURE = (255.0, 0.0, 200.0)  # magenta, which no label has
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:64rem;padding:0 1rem;color:#1c2530;background:#fff}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .8rem;text-align:left;border-bottom:1px solid #d8dee6}
td.number{text-align:right;font-variant-numeric:tabular-nums}
pre{overflow-x:auto;padding:.6rem .8rem;background:#f1f4f8;border-radius:4px;font-size:.85rem}
figure,.pair{display:inline-block}figure{margin:.5rem .5rem .5rem 0}.pair{margin-right:1rem}
figure img{height:15rem;image-rendering:pixelated;border-radius:4px}figcaption{font-size:.85rem;color:#5a6675}
.key{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin:0 .3em 0 1em}
@media(prefers-color-scheme:dark){body{color:#e3e8ee;background:#12171d}td,th{border-color:#2c3641}
figcaption{color:#97a3b0}pre{background:#1b232c}}
"""


def write_page(
    path: Path,
    title: str,
    ranking: Sequence[Suggestion],
    images: Mapping[str, Sequence[str]],
    class_names: Sequence[str],
    following: str,
) -> None:
    """Write the page; maps must be there.

    Args:
        path: File to write; maps are looked for in its folder.
        title: Heading.
        ranking: The suggestions.
        images: Case -> image files.
        class_names: Names of the labels 1, 2, ... for the legend.
        following: Command that exports these cases for correction.
    """
    rows = "".join(
        f'<tr><td class="number">{rank + 1}</td><td><a href="#case{rank}">{escape(each.case)}</a></td>'
        f'<td class="number">{each.score:.3f}</td><td>{escape(each.reason)}</td></tr>'
        for rank, each in enumerate(ranking)
    )
    legend = "".join(
        f'<span class="key" style="background:{css_color(value + 1)}"></span>{escape(name)}'
        for value, name in enumerate(class_names)
    )
    cases = "".join(
        f'<section id="case{rank}"><h2>{rank + 1}. {escape(each.case)}</h2>'
        f"{_figures(path.parent, each.case, images[each.case][0])}</section>"
        for rank, each in enumerate(ranking)
    )
    write_text(
        path,
        f'<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style>"
        f"<h1>{escape(title)}</h1><p>Outlines: what the model predicts ({legend} ). Magenta: how unsure it is. The "
        "slices are those of the largest uncertainty, counted from 1 along an axis of the file; the patient's right is "
        "at the left of an axial slice. Annotate from the top; scores compare where the reason is of one kind.</p>"
        f"<p>To correct what the model predicts instead of drawing it:</p><pre>{escape(following)}</pre>"
        "<table><thead><tr><th>rank</th><th>case</th><th>score</th>"
        f"<th>reason</th></tr></thead><tbody>{rows}</tbody></table>{cases}</html>\n",
    )


def worst_slices(uncertainty: np.ndarray, count: int) -> list[int]:
    """Return the slices ``(S, H, W)`` of the largest summed uncertainty, in their order, a tenth of the stack apart.

    Example:
        >>> worst_slices(np.array([0.0, 3.0, 2.9, 0.5, 1.0]).reshape(5, 1, 1), 2)
        [1, 2]
    """
    sums = uncertainty.sum(axis=(1, 2))
    apart, chosen = max(1, len(sums) // 10), []
    for index in np.argsort(-sums, kind="stable"):
        if all(abs(int(index) - other) >= apart for other in chosen):
            chosen.append(int(index))
        if len(chosen) == count:
            break
    return sorted(chosen)


def _figures(output: Path, case: str, image_file: str) -> str:
    original = read_image(image_file)
    oriented = original.GetDimension() == 3
    image = orient(original, oriented)
    spacing = array_spacing(image)
    axis = int(np.argmax(spacing))
    paths = (map_file(output, case, "entropy"), map_file(output, case, "prediction"))
    maps = [orient(read_image(path), oriented) for path in paths]
    grey, unsure, label = (as_slices(each, axis) for each in (image, *maps))
    low, high = np.percentile(grey, PERCENTILES)
    in_plane = tuple(mm for index, mm in enumerate(spacing) if index != axis)
    file_axis, numbers = in_file(original, image, axis) if oriented else (0, list(range(len(grey))))
    figures = []
    for index in worst_slices(unsure, SLICES):
        black_to_white = ((grey[index] - low) / max(high - low, 1e-9)).clip(0, 1)
        pictures = (
            (_outlined(black_to_white, label[index], in_plane), "prediction"),
            (_heated(black_to_white, unsure[index], in_plane), "uncertainty"),
        )
        number = f"slice {numbers[index] + 1} of {len(grey)}" + (f" ({'xyz'[file_axis]})" if oriented else "")
        figures.append(
            '<div class="pair">'
            + "".join(
                f'<figure><img alt="{what}" src="{picture}"><figcaption>{number}, {what}</figcaption></figure>'
                for picture, what in pictures
            )
            + "</div>"
        )
    return "".join(figures)


def _outlined(grey: np.ndarray, label: np.ndarray, spacing: tuple[float, float]) -> str:
    height, width = target_size(grey.shape, spacing, LONGEST)
    picture = np.array(_resized(grey, height, width).convert("RGB"))
    small = Image.fromarray(label.astype(np.int32), mode="I").resize((width, height), Image.Resampling.NEAREST)
    shown = np.array(small)
    border = outline(shown)
    picture[border] = np.array(LABEL_COLORS)[(shown[border] - 1) % len(LABEL_COLORS)]
    return _uri(Image.fromarray(picture))


def _heated(grey: np.ndarray, unsure: np.ndarray, spacing: tuple[float, float]) -> str:
    height, width = target_size(grey.shape, spacing, LONGEST)
    base = np.asarray(_resized(grey, height, width), dtype=float)[..., None]
    heat = np.asarray(_resized(unsure.clip(0, 1), height, width), dtype=float)[..., None] / 255
    return _uri(Image.fromarray((base * (1 - heat) + np.array(UNSURE) * heat).astype(np.uint8)))


def _resized(values: np.ndarray, height: int, width: int) -> Image.Image:
    return Image.fromarray((values * 255).astype(np.uint8)).resize((width, height), Image.Resampling.BILINEAR)


def _uri(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
