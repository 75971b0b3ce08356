"""Slices as PNG data URIs: all slices of a case below each other in one picture, masks as see-through layers.

An image is embedded once however many masks lie over it, and a layer of a few colours is small.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

# Of labels 1, 2, ... on a grey image: the hues of ``figures.CLASS_COLORS`` in their order, brighter.
LABEL_COLORS = (
    (86, 180, 255),
    (255, 90, 80),
    (90, 220, 120),
    (255, 200, 40),
    (60, 225, 215),
    (214, 130, 255),
    (255, 150, 60),
    (150, 235, 200),
)
FILL_OPACITY = 70  # of 255
OUTLINE_OPACITY = 255
LONGEST = 200  # pixels of the longer side of a slice


def target_size(shape: tuple[int, int], spacing_mm: tuple[float, float], longest: int = LONGEST) -> tuple[int, int]:
    """Return height and width in pixels: square pixels, the longer side at most ``longest`` and never magnified."""
    finest = min(spacing_mm)
    height = shape[0] * spacing_mm[0] / finest
    width = shape[1] * spacing_mm[1] / finest
    scale = min(1.0, longest / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def gray_sprite(slices: np.ndarray, size: tuple[int, int]) -> str:
    """Return slices ``(S, H, W)``, uint8, as one picture."""
    import numpy as np
    from PIL import Image

    height, width = size
    shown = []
    for one in slices:
        resized = Image.fromarray(one).resize((width, height), Image.Resampling.BILINEAR)
        shown.append(np.asarray(resized))
    return _uri(Image.fromarray(np.concatenate(shown)))


def mask_sprite(labels: np.ndarray, size: tuple[int, int]) -> str:
    """Return label maps ``(S, H, W)`` as one picture with a palette: filled faintly, outlined fully."""
    import numpy as np
    from PIL import Image

    height, width = size
    num_colors = len(LABEL_COLORS)
    shown = []
    for one in labels:
        colored = np.where(one > 0, (one.astype(np.int64) - 1) % num_colors + 1, 0).astype(np.uint8)
        resized = np.asarray(Image.fromarray(colored).resize((width, height), Image.Resampling.NEAREST))
        shown.append(resized + num_colors * outline(resized))
    picture = Image.fromarray(np.concatenate(shown).astype(np.uint8)).convert("P")

    # palette: nothing, the colours of what is filled, the same colours for outlines
    colors = [0, 0, 0]
    for color in 2 * LABEL_COLORS:
        colors += color
    picture.putpalette(colors)
    opacity = [0] + [FILL_OPACITY] * num_colors + [OUTLINE_OPACITY] * num_colors
    return _uri(picture, transparency=bytes(opacity))


def css_color(label: int) -> str:
    """Return the colour of a label for a style sheet."""
    return f"rgb{LABEL_COLORS[(label - 1) % len(LABEL_COLORS)]}"


def outline(label: np.ndarray) -> np.ndarray:
    """Return where a label map ``(H, W)`` has foreground that touches another value, bool."""
    import numpy as np

    padded = np.pad(label, 1)
    middle = padded[1:-1, 1:-1]
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    differs = np.any([neighbour != middle for neighbour in neighbours], axis=0)
    return (middle > 0) & differs


def _uri(picture: Image.Image, **options: Any) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True, **options)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
