"""Held-out cases of formats whose files say less, or more, than a NIfTI does."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from nnunet_semisam.benchmark import held_out
from nnunet_semisam.benchmark.metrics import score_case
from nnunet_semisam.benchmark.records import CaseSet

SPACING = [10.0, 0.5, 0.5]
TIF = {"file_ending": ".tif", "labels": {"background": 0, "x": 1}, "channel_names": {"0": "MR"}}
PNG = {"file_ending": ".png", "labels": {"background": 0, "x": 1}, "channel_names": {"0": "R", "1": "G", "2": "B"}}


def of_tests(folder):
    """A benchmark whose fold 0 is judged on the test cases."""
    return SimpleNamespace(
        folder=folder, cases=CaseSet.TEST, test_set=None, folds=[0], held_out_set=lambda fold: "test"
    )


@pytest.fixture
def tif(tmp_path):
    """A tif volume of which half is found, with its spacing beside image and label."""
    tifffile = pytest.importorskip("tifffile")
    raw = tmp_path / "raw"
    label = np.zeros((8, 16, 16), np.uint8)
    label[2:6, 4:12, 4:12] = 1
    for part, name in (("imagesTs", "a_0000.tif"), ("labelsTs", "a.tif")):
        (raw / part).mkdir(parents=True)
        tifffile.imwrite(raw / part / name, label)
        (raw / part / "a.json").write_text(json.dumps({"spacing": SPACING}))
    label[2:4] = 0
    tifffile.imwrite(tmp_path / "a.tif", label)
    return SimpleNamespace(raw=raw, dataset_json={**TIF, "overwrite_image_reader_writer": "Tiff3DIO"})


@pytest.mark.parametrize("beside_label", [True, False])
def test_distances_of_tif_volumes_are_in_millimetres(tif, tmp_path, beside_label):
    """Two slices of 10 mm are missed: the farthest tenth of a surface is 20 mm away, not 2."""
    if not beside_label:
        (tif.raw / "labelsTs" / "a.json").unlink()  # a label lies as its image does
    cases = held_out.gather(of_tests(tmp_path / "study"), tif, 0)
    scores = score_case(tmp_path / "a.tif", cases.label("a", ".tif"), tif.dataset_json)
    assert {score.metric: score.scored for score in scores}["hd95"] == pytest.approx(20.0)


@pytest.mark.parametrize("part", ["imagesTs", "labelsTs"])
def test_a_changed_spacing_changes_the_digest_of_a_case(tif, part):
    images, label = [tif.raw / "imagesTs" / "a_0000.tif"], tif.raw / "labelsTs" / "a.tif"
    before = held_out._digest(images, label)
    (tif.raw / part / "a.json").write_text(json.dumps({"spacing": [5.0, 0.5, 0.5]}))
    assert held_out._digest(images, label) != before


@pytest.mark.parametrize(("colours", "problems"), [(3, 0), (1, 1)])
def test_a_photo_has_as_many_channels_as_colours(tmp_path, colours, problems):
    from skimage import io

    raw = tmp_path / "raw"
    (raw / "imagesTs").mkdir(parents=True)
    (raw / "labelsTs").mkdir()
    image = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
    io.imsave(raw / "imagesTs" / "a_0000.png", image if colours == 3 else image[..., 0], check_contrast=False)
    io.imsave(raw / "labelsTs" / "a.png", np.eye(16).astype(np.uint8), check_contrast=False)
    dataset = SimpleNamespace(raw=raw, dataset_json=PNG, plans={"image_reader_writer": "NaturalImage2DIO"})
    found = held_out.check_readable(of_tests(tmp_path / "study"), dataset)
    assert len(found) == problems
    assert all("the case has 1 of 3 channels" in text for text in found)
