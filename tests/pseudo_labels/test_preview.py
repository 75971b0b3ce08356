"""Pictures of cases of a round."""

import matplotlib.image
import numpy as np
import pytest
import torch
from tiny_world import ThresholdSAM, disc, regions

from nnunet_semisam.pseudo_labels.preview import informative_slice


def test_the_middle_of_the_slices_with_most_labels_is_shown():
    label = disc((20, 30), 10, (9, 40, 60)).astype(np.int16)
    label[2:5, 20, 30] = 2
    assert informative_slice(label, 0) == 3
    assert informative_slice(np.zeros_like(label), 0) == 4
    assert informative_slice(label, 1) == 20


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("prompt", ["box_points_mask", "points"])
def test_a_refresh_writes_a_picture_of_the_first_cases_only(make_stage, tmp_path, dims, prompt):
    backend, previews = ThresholdSAM(spatial_dims=dims), tmp_path / "previews"
    stage = make_stage(backend, nano={"prompt": prompt}, sam={"preview_cases": 1}, previews=previews)
    stage.refresh(3, ["case_b", "case_a"], epoch=0)
    assert [file.name for file in (tmp_path / "previews").iterdir()] == ["round_003_case_b.png"]
    picture = matplotlib.image.imread(tmp_path / "previews" / "round_003_case_b.png")[..., :3]
    assert (np.ptp(picture, axis=2) > 0.2).mean() > 0.005, "masks and prompts are in color"


def test_pictures_of_regions_and_of_nothing(make_stage, tmp_path):
    stage = make_stage(
        labels=regions(),
        inputs={"predict": lambda image: torch.full((2, *image.shape[1:]), 0.1)},
        sam={"preview_cases": 2},
        previews=tmp_path / "previews",
    )
    stage.refresh(0, ["case_a"], epoch=0)
    assert (tmp_path / "previews" / "round_000_case_a.png").stat().st_size > 1000


def test_no_folder_no_pictures(make_stage, tmp_path):
    make_stage(sam={"preview_cases": 2}).refresh(0, ["case_a"], epoch=0)
    assert not list(tmp_path.rglob("*.png"))


def test_picture_does_not_depend_on_the_style_of_the_process(make_stage, tmp_path):
    pictures = []
    for size in (10.0, 40.0):  # nnU-Net's plots scale all fonts
        folder = tmp_path / str(size)
        with matplotlib.rc_context({"font.size": size}):
            make_stage(sam={"preview_cases": 1}, previews=folder).refresh(0, ["case_a"], epoch=0)
        pictures.append((folder / "round_000_case_a.png").read_bytes())
    assert pictures[0] == pictures[1]
