"""Weights that strangers made, or a disk changed: refused by name before they can predict nonsense."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from segment_anything.modeling import Sam

from nnunet_semisam.errors import UserError, shown
from nnunet_semisam.io.tensor_files import numpy_scalar_types, read_tensors
from nnunet_semisam.sam.checkpoints import find_weights, load_weights


def replaced(change: Callable[[torch.Tensor], object]) -> Callable[[dict, Path], None]:
    def write(state: dict, path: Path) -> None:
        name = "mask_decoder.iou_token.weight"
        torch.save({**state, name: change(state[name])}, path)

    return write


def flip(state: dict, path: Path) -> None:
    torch.save(state, path)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    path.write_bytes(content)


def packed(state: dict, path: Path) -> None:
    plain = io.BytesIO()
    torch.save(state, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for part in source.infolist():
            target.writestr(part.filename, source.read(part))


def huge(state: dict, path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**36)


@pytest.mark.parametrize(
    ("write", "needle"),
    [
        (replaced(lambda v: torch.full_like(v, torch.nan)), "not finite (NaN or infinite) in mask_decoder.iou_token"),
        (replaced(lambda v: torch.full_like(v, 1e300, dtype=torch.float64)), "not finite"),
        (replaced(lambda v: v.int()), "int32 instead of"),
        (replaced(lambda v: v.to(torch.complex64)), "complex64 instead of"),
        (replaced(lambda v: v.to_sparse()), "whose values are not in the file"),
        (replaced(lambda v: v.to("meta")), "whose values are not in the file"),
        (replaced(lambda v: "text"), "is str instead of"),
        (replaced(lambda v: torch.zeros(1).expand(60_000, 60_000)), "of shape (60000, 60000) whose values are not"),
        (flip, "the checksum of"),
        (packed, "it is packed"),
        (huge, "MiB are read"),
        (lambda state, path: os.mkfifo(path), "is a pipe"),
        (lambda state, path: path.mkdir(), "is a folder"),
        (lambda state, path: path.symlink_to(path), "leads back to itself"),
        (lambda state, path: path.write_text('{"weight_map": {"a": "model-00001.bin"}}'), "get it again"),
    ],
)
def test_weights_that_cannot_be_used_are_refused_by_name(tmp_path, nano_sam: Sam, write, needle):
    before = {name: value.clone() for name, value in nano_sam.state_dict().items()}
    path = tmp_path / "weights.pt"
    write(before, path)
    try:
        with pytest.raises(UserError, match=r"weights\.pt") as caught:
            load_weights(nano_sam, path, "nano")
    finally:
        nano_sam.load_state_dict(before)
    assert needle in str(caught.value)


def test_published_weights_that_are_not_whole_are_named_before_a_training_waits_for_them(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_sam", str(tmp_path))
    (tmp_path / "sam_vit_b_01ec64.pth").write_bytes(b"half a download")
    with pytest.raises(UserError, match=r"sam_vit_b_01ec64.pth has 15 bytes.*375042383.*sam download vit_b"):
        find_weights("vit_b", None)


def test_a_numpy_type_of_any_size_is_not_made(tmp_path):
    """What was wrong: a scalar of type V1500000000 in a file of some bytes took as much memory."""

    class Huge:
        def __reduce__(self):
            return np.dtype, ("V1500000000", False, True)

    file = tmp_path / "weights.pt"
    torch.save({"log": Huge()}, file)
    with pytest.raises(UserError, match=r"no file of plain weights: .*numpy values of the type 'V1500000000'"):
        read_tensors(file, "", numpy_scalar_types())
    torch.save({"log": [np.float64(1.5), np.float32(2.5), np.int64(3), np.bool_(True)]}, file)
    assert read_tensors(file, "", numpy_scalar_types())["log"] == [1.5, 2.5, 3, True]


def test_lists_within_lists_are_shown_at_once():
    """What was wrong: a list of twice the same list, 32 levels deep, is a text of four thousand million numbers."""
    nested = [0]
    for _ in range(40):
        nested = [nested, nested]
    assert len(shown(nested)) < 1000
    assert shown([1, "a"]) == "[1, 'a']"
