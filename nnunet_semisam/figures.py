"""The look of all pictures that this package draws with matplotlib, in one place.

nnU-Net 2.8.1 calls ``sns.set(font_scale=2.5)`` when it plots, which changes matplotlib for the whole process. So every
picture of ours is drawn and saved inside :func:`figure_style`, which starts from matplotlib's defaults and leaves no
trace. No pyplot: no window system is asked for, and no state is kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_semisam.io.atomic import replaced_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLASS_COLORS = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#EE8866", "#44BB99")
"""Colours of foreground classes: Paul Tol's "bright" scheme, for all kinds of colour vision, and two of "light".

Source: https://personal.sron.nl/~pault/ (SRON/EPS/TN/09-002).
"""
OURS, BASELINE, MUTED, MARK = "#0B6E6E", "#8A8F98", "#5B626C", "#C2410C"
STYLE: dict[str, Any] = {
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "savefig.facecolor": "white",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": MUTED,
    "axes.edgecolor": "#B4BAC3",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#E6E9ED",
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "text.parse_math": False,  # a class may be called "a$b"
    "image.interpolation": "nearest",
    "svg.hashsalt": "nnunet-semisam",  # the same picture gives the same file
    "svg.fonttype": "path",
}


@contextlib.contextmanager
def figure_style() -> Iterator[None]:
    """Draw and save in the style of this package; matplotlib's settings are afterwards what they were.

    Example:
        >>> import matplotlib
        >>> before = matplotlib.rcParams["font.size"]
        >>> with matplotlib.rc_context({"font.size": 25.0}), figure_style():  # 25: what nnU-Net leaves behind
        ...     matplotlib.rcParams["font.size"]
        9.0
        >>> matplotlib.rcParams["font.size"] == before
        True
    """
    import matplotlib
    import matplotlib.style

    with matplotlib.style.context("default"), matplotlib.rc_context(STYLE):
        yield


def class_color(index: int) -> str:
    """Return the colour of a foreground channel, from 0 on, as ``#RRGGBB``; colours repeat after eight."""
    return CLASS_COLORS[index % len(CLASS_COLORS)]


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches; call it inside :func:`figure_style`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: str | Path, dpi: int = 110) -> None:
    """Write a figure whole or not at all; the ending of ``path`` says what (png, svg, pdf). The folder is made.

    The file holds no date: the same picture gives the same bytes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"Date": None} if path.suffix == ".svg" else None
    with replaced_file(path) as temporary:
        figure.savefig(temporary, dpi=dpi, metadata=metadata, format=path.suffix[1:])
