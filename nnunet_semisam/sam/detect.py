"""Which model a file of weights is of: found from the names and shapes of its tensors.

What a model's files look like stands in its row of :data:`~nnunet_semisam.sam.families.FAMILIES`. Several models may
have the same keys and differ only in how they want their images (MedSAM and vit_b, for example). Then the published
file name decides; a file of another name must be named by its model.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from nnunet_semisam.errors import UserError
from nnunet_semisam.io.tensor_shapes import SAFETENSORS, Shapes, read_shapes
from nnunet_semisam.sam.families import AUTO, FAMILIES, family
from nnunet_semisam.sam.family import Family, Layout

LOGGER = logging.getLogger(__name__)
# Name of the weights in a folder of Hugging Face's transformers.
FILE_IN_FOLDER = f"model{SAFETENSORS}"


def matching(stored: Mapping[str, Shapes]) -> list[str]:
    """Return the names of all models that weights may be of, in the order of the table.

    Args:
        stored: As :func:`~nnunet_semisam.io.tensor_shapes.read_shapes` returns it.

    Example:
        >>> matching({"": {"image_encoder.stem.0.weight": (24, 1, 3, 3), "mask_decoder.iou_token.weight": (1, 128)}})
        ['nano']
    """
    return [row.name for row in FAMILIES.values() if any(_fits(layout, stored) for layout in row.layouts)]


def _fits(layout: Layout, stored: Mapping[str, Shapes]) -> bool:
    shapes = stored.get(layout.inside)
    if not shapes or not all(_is_like(shapes.get(key), wanted) for key, wanted in layout.shapes.items()):
        return False
    return not any(fragment in key for key in shapes for fragment in layout.without)


def _is_like(shape: tuple[int, ...] | None, wanted: tuple[int | None, ...]) -> bool:
    if shape is None or len(shape) != len(wanted):
        return False
    return all(size in (None, found) for size, found in zip(wanted, shape, strict=True))


def detect(path: str | Path) -> Family:
    """Return the model whose weights a file holds.

    Args:
        path: A file of ``torch.save`` or safetensors, or a folder with ``model.safetensors``.

    Raises:
        UserError: If the file cannot be read, is of no model in the table, or may be of several.
    """
    path = Path(path).expanduser()
    remedy = "Name a file with the weights of a SAM, whole and of plain tensors."
    found = matching(read_shapes(path / FILE_IN_FOLDER if path.is_dir() else path, remedy))
    named_so = [name for name in found if FAMILIES[name].file == path.name]
    if not found:
        raise UserError(
            f"{path} has the keys of no SAM model in the table ({', '.join(sorted({*FAMILIES} - {AUTO}))}). If it is "
            "of one of them, get it again; `nnunet-semisam sam list MODEL` shows where it is published."
        )
    if len(found) > 1 and len(named_so) != 1:
        raise UserError(
            f"{path} may be of {', '.join(found[:-1])} or {found[-1]}: their weights have the same keys, and they want "
            f"their images in different ways. Name the model: sam: {{models: [{found[0]}]}} and "
            f"{found[0]}: {{checkpoint: {path}}}, for example."
        )
    return FAMILIES[named_so[0] if len(found) > 1 else found[0]]


def family_of(name: str, checkpoint: str | None) -> Family:
    """Return the row of a model; ``auto`` stands for whatever model its ``checkpoint`` is of.

    Raises:
        UserError: If there is no such model, or ``auto`` has no checkpoint or one that is of no single model.
    """
    if name != AUTO:
        return family(name)
    if checkpoint is None:
        raise UserError(
            "The model 'auto' is found from a file of weights, and none is named. Set auto: {checkpoint: FILE}, or "
            "name a model in sam: {models: [...]}."
        )
    found = detect(checkpoint)
    LOGGER.info("%s holds weights of the SAM model %s.", checkpoint, found.name)
    return found


def of_another_model(stored: Mapping[str, Shapes], name: str) -> str:
    """Return a sentence that says which other models weights are of; empty if their keys do not tell."""
    found = matching(stored)
    return "" if not found or name in found else f"Its keys are those of {' or '.join(found)}. "
