"""Where nnU-Net's reader of tif volumes finds their spacing: in a json file beside the image."""

from __future__ import annotations

from pathlib import Path

TIF_ENDINGS = (".tif", ".tiff")
CHANNEL = len("_0000")


def spacing_file(image: Path) -> Path | None:
    """Return ``CASE.json`` beside ``CASE_0000.tif``; ``None`` where there is none, or where the image is no tif.

    Example:
        >>> spacing_file(Path("imagesTr/a_0000.nii.gz")) is None
        True
    """
    if image.suffix.lower() not in TIF_ENDINGS:
        return None
    found = image.with_name(f"{image.name[: -len(image.suffix) - CHANNEL]}.json")
    return found if found.is_file() else None
