"""Colours and names of labels, as 3D Slicer and ITK-SNAP read them.

3D Slicer: a line ``value name R G B A`` per label, 0 to 255, in a ``.ctbl`` file; names have no blanks. ITK-SNAP: a
line ``value R G B A visible mesh "name"``, A in [0, 1], loaded with Segmentation > Import Label Descriptions.
"""

from __future__ import annotations

import colorsys
import re
from collections.abc import Mapping
from typing import Any

from nnunet_semisam.data.dataset_json import IGNORE, ignore_label
from nnunet_semisam.report.drawing.sprites import LABEL_COLORS

GREY = (128, 128, 128)
GOLDEN = 0.618  # of the circle of hues, from one further label to the next: they stay apart however many there are


def label_names(dataset_json: Mapping[str, Any]) -> dict[int, str]:
    """Return value -> name of every label that a voxel may have, the background and ``ignore`` included.

    A value that is only part of regions has the names of those that it is in.

    Example:
        >>> label_names({"labels": {"background": 0, "whole": [1, 2], "core": [2]}})
        {0: 'background', 1: 'whole', 2: 'whole+core', 3: 'ignore'}
    """
    names: dict[int, list[str]] = {}
    for name, entry in dataset_json["labels"].items():
        for value in entry if isinstance(entry, list) else [entry]:
            names.setdefault(int(value), []).append(name)
    names.setdefault(ignore_label(dataset_json), [IGNORE])
    return {value: "+".join(names[value]) for value in sorted(names)}


def color_of(value: int, ignored: bool) -> tuple[int, int, int]:
    """Return red, green and blue of a label, 0 to 255."""
    if ignored:
        return GREY
    if value <= len(LABEL_COLORS):
        return LABEL_COLORS[value - 1]
    red, green, blue = colorsys.hsv_to_rgb((value * GOLDEN) % 1, 0.75, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def slicer_table(names: Mapping[int, str]) -> str:
    """Return the content of a ``.ctbl`` file for 3D Slicer.

    Example:
        >>> print(slicer_table({0: "background", 1: "left atrium"}).splitlines()[-1])
        1 left_atrium 86 180 255 255
    """
    lines = ["# Color table file, made by nnunet-semisam", f"# {len(names)} values"]
    for value, name in names.items():
        red, green, blue = (0, 0, 0) if value == 0 else color_of(value, name == IGNORE)
        lines.append(f"{value} {_word(name)} {red} {green} {blue} {0 if value == 0 else 255}")
    return "\n".join(lines) + "\n"


def itksnap_table(names: Mapping[int, str]) -> str:
    """Return the content of a label description file for ITK-SNAP.

    Example:
        >>> itksnap_table({0: "background", 1: "atrium"}).splitlines()[-1].split()
        ['1', '86', '180', '255', '1', '1', '1', '"atrium"']
    """
    lines = ["################################################", "# ITK-SnAP Label Description File"]
    lines += ["# File format:", "# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL", lines[0]]
    for value, name in names.items():
        red, green, blue = (0, 0, 0) if value == 0 else color_of(value, name == IGNORE)
        shown = 0 if value == 0 else 1
        text = "Clear Label" if value == 0 else name.replace('"', "'")
        lines.append(f'{value:5d} {red:5d} {green:4d} {blue:4d} {shown:9d} {shown:2d} {shown:2d}    "{text}"')
    return "\n".join(lines) + "\n"


def _word(name: str) -> str:
    return re.sub(r"\s+", "_", name)
