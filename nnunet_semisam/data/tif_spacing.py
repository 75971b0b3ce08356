"""Where nnU-Net's reader of tif volumes finds their spacing: in a json file beside the image, or beside the label."""

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
    return _json_beside(image, image.name[: -len(image.suffix) - CHANNEL])


def spacing_file_of_label(label: Path) -> Path | None:
    """Return ``CASE.json`` beside ``CASE.tif``; ``None`` where there is none, or where the label is no tif."""
    return _json_beside(label, label.stem)


def _json_beside(file: Path, case: str) -> Path | None:
    found = file.with_name(f"{case}.json")
    return found if file.suffix.lower() in TIF_ENDINGS and found.is_file() else None
