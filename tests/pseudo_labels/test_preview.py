"""Pictures of cases of a round."""

import matplotlib.image
import numpy as np
import pytest
import torch
from tiny_world import ThresholdSAM, classes, disc, regions

from nnunet_semisam.figures import figure_style
from nnunet_semisam.generalists.base import CasePrediction
from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels.fusion import FusedLabel
from nnunet_semisam.pseudo_labels.preview import Preview, informative_slice, preview_figure
from nnunet_semisam.sam.base import PromptBatch


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


def preview(label=None, weights=(0.5,), **more):
    """One class; the specialist's square is two columns right of the generalist's, which the pseudo-label follows."""
    square = np.zeros((3, 90, 100), dtype=np.int16)
    square[1, 20:40, 50:70] = 1
    probs = square[None].astype(np.float32)
    everywhere = np.ones(probs.shape, dtype=bool)
    prediction = CasePrediction(probs, np.ones_like(probs), everywhere, ~everywhere)
    prompts = PromptBatch(
        image=torch.zeros(1, dtype=torch.long),
        label=torch.tensor([1]),
        boxes=torch.tensor([[[20.0, 40.0], [50.0, 70.0]]]),
        points=torch.tensor([[[30.0, 60.0], [10.0, 60.0]]]),
        point_labels=torch.tensor([[1, 0]]),
    )
    arguments = {
        "title": "case_a",
        "image": square.astype(np.float32),
        "specialist": np.roll(square, 2, axis=2),
        "prediction": prediction,
        "prompts": prompts,
        "fused": FusedLabel(square, np.full(square.shape, 0.75, np.float32)),
        "axis": 0,
        "index": 1,
        "spacing": (5.0, 1.0, 1.0),
        "threshold": 0.5,
        "generalist": "nano",
        "weights": weights,
        "label": square if label is True else label,
    }
    return Preview(**{**arguments, **more})


def drawn(labels=None, **arguments):
    with figure_style():
        return preview_figure(preview(**arguments), labels or classes())


def titles(figure):
    return [ax.get_title(loc="left") for ax in figure.axes[:6]]


def test_all_panels_have_one_crop_around_what_is_there():
    figure = drawn()
    # rows 20:40 and columns 50:72, at least 48 of them: 14 and 13 on each side
    assert {ax.get_xlim() for ax in figure.axes[:6]} == {(36.5, 84.5)}
    assert {ax.get_ylim() for ax in figure.axes[:6]} == {(53.5, 5.5)}


def test_dice_is_in_the_titles_of_labeled_cases_only():
    names = ["image", "specialist", "prompts", "generalist (nano)", "pseudo-label", "confidence of the pseudo-label"]
    assert titles(drawn()) == names
    labeled = titles(drawn(label=True))
    assert labeled[0] == "label"
    assert labeled[1] == "specialist, Dice 0.90"  # 18 of 20 columns overlap: 2 * 18 / (20 + 20)
    assert labeled[3:5] == ["generalist (nano), Dice 1.00", "pseudo-label, Dice 1.00"]


def test_legend_names_classes_weights_and_the_kinds_of_prompts():
    named = Labels((1,), False, (), lambda probs: probs.argmax(0), ("left_atrium",))
    for weight, text in ((0.5, "share of the generalist 0.5"), (0.0, "generalist inactive")):
        (legend,) = drawn(named, weights=(weight,)).legends
        found = [entry.get_text() for entry in legend.get_texts()]
        assert found == [f"left_atrium ({text})", "box", "point inside", "point outside"]


def test_confidence_has_a_bar_with_the_threshold():
    figure = drawn(threshold=0.6)
    (bar,) = figure.axes[6:]
    assert bar.get_ylabel() == "learned from 0.6"
    assert bar.get_ylim() == (0, 1)


def test_a_calibration_draws_its_first_labeled_case(make_stage, tmp_path):
    stage = make_stage(sam={"preview_cases": 1}, previews=tmp_path / "previews")
    label = disc((20, 30), 10).astype(np.int16)
    stage.calibrate(4, 0, ["case_b", "case_a"], lambda case: label, estimated_dice=0.7)
    assert [file.name for file in (tmp_path / "previews").iterdir()] == ["round_004_labeled_case_b.png"]
