"""Slices as PNG data URIs: all slices of a case below each other in one picture, masks as see-through layers.

An image is embedded once however many masks lie over it, and a layer of a few colours is small.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

# Of labels 1, 2, ... on a grey image.
LABEL_COLORS = (
    *((86, 180, 255), (255, 200, 40), (255, 90, 80), (90, 220, 120)),
    *((214, 130, 255), (60, 225, 215), (255, 150, 60), (255, 130, 200)),
)
FILL, OUTLINE = 70, 255  # opacity, of 255
LONGEST = 200  # pixels of the longer side of a slice


def target_size(shape: tuple[int, int], spacing_mm: tuple[float, float], longest: int = LONGEST) -> tuple[int, int]:
    """Return height and width in pixels: square pixels, the longer side at most ``longest`` and never magnified."""
    finest = min(spacing_mm)
    height, width = shape[0] * spacing_mm[0] / finest, shape[1] * spacing_mm[1] / finest
    scale = min(1.0, longest / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def gray_sprite(slices: np.ndarray, size: tuple[int, int]) -> str:
    """Return slices ``(S, H, W)``, uint8, as one picture."""
    import numpy as np
    from PIL import Image

    shown = [np.asarray(Image.fromarray(one).resize(size[::-1], Image.Resampling.BILINEAR)) for one in slices]
    return _uri(Image.fromarray(np.concatenate(shown)))


def mask_sprite(labels: np.ndarray, size: tuple[int, int]) -> str:
    """Return label maps ``(S, H, W)`` as one picture with a palette: filled faintly, outlined fully."""
    import numpy as np
    from PIL import Image

    shown = []
    for one in labels:
        colored = np.where(one > 0, (one.astype(np.int64) - 1) % len(LABEL_COLORS) + 1, 0).astype(np.uint8)
        resized = np.asarray(Image.fromarray(colored).resize(size[::-1], Image.Resampling.NEAREST))
        shown.append(resized + len(LABEL_COLORS) * outline(resized))
    picture = Image.fromarray(np.concatenate(shown).astype(np.uint8)).convert("P")
    colors = [0, 0, 0, *(value for color in 2 * LABEL_COLORS for value in color)]
    picture.putpalette(colors)
    opacity = bytes([0, *[FILL] * len(LABEL_COLORS), *[OUTLINE] * len(LABEL_COLORS)])
    return _uri(picture, transparency=opacity)


def outline(label: np.ndarray) -> np.ndarray:
    """Return where a label map ``(H, W)`` has foreground that touches another value, bool."""
    import numpy as np

    padded = np.pad(label, 1)
    middle = padded[1:-1, 1:-1]
    sides = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return (middle > 0) & np.any([side != middle for side in sides], axis=0)


def _uri(picture: object, **options: object) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True, **options)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
