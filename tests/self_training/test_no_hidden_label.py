"""No hidden label is touched: with noise in its place no calibration, label, dataset or weight differs."""

import re

import blosc2
import pytest
import tiny_nnunet
import torch
from hidden_labels import HIDDEN, fill_hidden_labels_with_noise
from test_rounds_of_self_training import finish

from nnunet_semisam.self_training.calibration_record import CALIBRATION_FILE
from nnunet_semisam.self_training.rounds import RoundOfFold


def content_of(path):
    """Return what is in a file; blosc2 writes the same voxels in different bytes, checkpoints hold the time of day."""
    if path.suffix == ".b2nd":
        array = blosc2.open(str(path))
        return array.shape, array.dtype, array[:].tobytes()
    if path.suffix == ".json":
        return re.sub(r'"(checkpoint|calibration)_sha256": "[0-9a-f]+"', "", path.read_text())
    return path.read_bytes()


def left(plan):
    """Return name -> content of all files of labels and data, and the weights of all models."""
    place = RoundOfFold(plan, 1, 0)
    files = {}
    for path in (*place.labels.rglob("*"), *place.data.rglob("*"), place.folder / CALIBRATION_FILE):
        if path.is_file():
            files[str(path.relative_to(plan.folder))] = content_of(path)
    weights = [
        torch.load(RoundOfFold(plan, index, 0).model.checkpoint, weights_only=False)["network_weights"]
        for index in (0, 1)
    ]
    return files, weights


WITH_SAM = {
    "sam": True,
    "settings": {
        **tiny_nnunet.SHORT,
        "num_epochs": 1,
        "nano": {"prompt": "box", "refinement": "none"},
        "sam": {"confidence_threshold": 0.01, "cache_gb": 0},  # each run encodes by itself
    },
}


@pytest.mark.parametrize("options", [{}, WITH_SAM], ids=["teacher", "sam"])
def test_hidden_labels_do_not_change_a_byte(make, commands, calibrated, tiny_dataset, options):
    assert HIDDEN
    calibrated(0.5, 0.0)
    first = make("first", **options)
    assert finish(first)[0]
    fill_hidden_labels_with_noise(tiny_dataset)
    second = make("second", **options)
    assert finish(second)[0]
    files, weights = left(first)
    others, other_weights = left(second)
    assert len(files) > 50
    assert files.keys() == others.keys()
    assert any(name.endswith(CALIBRATION_FILE) for name in files) == first.sam
    assert [name for name in files if files[name] != others[name]] == []
    assert all(torch.equal(a[name], b[name]) for a, b in zip(weights, other_weights, strict=True) for name in a)
