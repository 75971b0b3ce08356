"""Labels and qualities by hand calculation."""

from types import SimpleNamespace

import numpy as np
import pytest

from nnunet_semisam.data.dataset_json import ignore_label
from nnunet_semisam.labels import Labels
from nnunet_semisam.self_training.pseudo_label import (
    SAMOpinion,
    agreement,
    certainty,
    choose,
    mean_confidence,
    with_ignore,
    with_sam,
)
from nnunet_semisam.self_training.raw_dataset import dataset_json_with_ignore, voxels_per_label, write_raw

CLASSES, REGIONS = Labels.of_classes(3), Labels.of_regions(2)


def volume(*values):
    """Values along X, as ``(1, 1, X)``."""
    return np.array(values).reshape(1, 1, -1)


def test_certainty_of_classes_is_the_probability_of_the_winner():
    probabilities = np.array([[0.2, 0.5], [0.7, 0.3], [0.1, 0.2]]).reshape(3, 1, 1, 2)
    assert certainty(probabilities, CLASSES).flatten() == pytest.approx([0.7, 0.5])


def test_certainty_of_regions_is_that_of_the_least_certain_one():
    probabilities = np.array([[0.9, 0.45], [0.6, 0.05]]).reshape(2, 1, 1, 2)  # whole, core
    assert certainty(probabilities, REGIONS).flatten() == pytest.approx([0.6, 0.55])


def test_voxels_at_the_threshold_are_kept_and_those_below_are_ignored():
    label = with_ignore(volume(0, 1, 2), volume(0.9, 0.7, 0.69999), 0.7, 3)
    assert (label.flatten().tolist(), label.dtype) == ([0, 1, 3], np.uint8)
    assert with_ignore(volume(1), volume(0.0), 0.5, 300).dtype == np.uint16


def fused(label, confidence, asked):
    return SAMOpinion(volume(*label), volume(*confidence), volume(*asked).astype(bool))


def label_with_sam(by_teacher, predicted, opinion, active, labels=CLASSES):
    return with_sam(volume(*by_teacher), volume(*predicted), opinion, active, labels, 0.5, 3).flatten().tolist()


def test_a_class_without_a_sam_is_the_teachers_voxel_by_voxel():
    predicted, by_teacher = [2, 2, 2, 2], [2, 3, 2, 3]  # sure of every other voxel of class 2
    opinion = fused([1, 1, 2, 0], [0.9, 0.9, 0.1, 0.9], [1, 1, 1, 0])  # SAM wants the first two for class 1
    assert label_with_sam(by_teacher, predicted, opinion, [True, False]) == by_teacher


def test_what_a_sam_takes_from_its_class_does_not_become_a_class_that_no_sam_vouches_for():
    opinion = fused([2, 0, 1], [0.9, 0.9, 0.9], [1, 1, 1])
    assert label_with_sam([1, 1, 1], [1, 1, 1], opinion, [True, False]) == [3, 0, 1]


def test_background_is_fused_where_a_sam_was_asked_and_else_the_teachers():
    opinion = fused([0, 0, 1, 1, 0], [0.5, 0.4, 0.6, 0.4, 0.1], [1, 1, 1, 0, 0])
    assert label_with_sam([0, 0, 0, 0, 0], [0] * 5, opinion, [True, True]) == [0, 3, 1, 3, 0]


def test_a_voxel_of_a_class_with_a_sam_needs_the_fused_confidence_even_where_no_sam_was_asked():
    opinion = fused([1, 1], [0.6, 0.4], [0, 0])
    assert label_with_sam([1, 1], [1, 1], opinion, [True, False]) == [1, 3]


def test_regions_are_fused_where_one_has_a_sam_and_never_contradict_the_teacher_about_the_other():
    # whole (labels 1 and 2) is the teacher's, a SAM contributes to core (label 2)
    opinion = fused([2, 1, 0, 2, 1], [0.9, 0.9, 0.9, 0.9, 0.1], [1, 1, 1, 1, 0])
    found = label_with_sam([1, 3, 3, 0, 1], [1, 2, 2, 0, 1], opinion, [False, True], REGIONS)
    assert found == [2, 1, 3, 3, 1]


def test_the_kind_of_label_stays():
    opinion = fused([1], [0.9], [1])
    teacher = with_ignore(volume(1), volume(0.9), 0.5, 300)
    assert with_sam(teacher, volume(1), opinion, [True, True], CLASSES, 0.5, 300).dtype == np.uint16


def test_agreement_is_the_mean_dice_over_classes_of_either_prediction():
    # class 1: 2 and 1 voxels, 1 in common: 2 / 3; class 2: 0 and 1: 0
    assert agreement(volume(1, 1, 0), volume(1, 2, 0), CLASSES) == pytest.approx((2 / 3 + 0) / 2)
    assert agreement(volume(1, 0), volume(1, 0), CLASSES) == 1.0
    assert agreement(volume(0, 0), volume(0, 0), CLASSES) is None


def test_agreement_of_regions_counts_the_labels_that_they_are_made_of():
    # whole (labels 1 and 2): both have 2 voxels, the same; core (label 2): 1 and 2 voxels, 1 in common
    assert agreement(volume(1, 2, 0), volume(2, 2, 0), REGIONS) == pytest.approx((1 + 2 / 3) / 2)


def test_confidence_is_the_mean_certainty_of_predicted_foreground():
    assert mean_confidence(volume(0, 1, 2), volume(0.5, 0.6, 0.8)) == pytest.approx(0.7)
    assert mean_confidence(volume(0), volume(0.9)) is None


def test_the_best_cases_are_chosen_and_those_without_estimate_come_last():
    qualities = {"a": None, "b": 0.1, "c": 0.9, "d": 0.0}
    assert choose(qualities, 0.5) == ["b", "c"]
    assert choose(qualities, 0.75) == ["b", "c", "d"]
    assert choose(qualities, 0.01) == ["c"]
    assert choose(qualities, 1.0) == ["a", "b", "c", "d"]
    assert choose({}, 1.0) == []


def test_ignore_is_the_number_after_all_labels_or_the_one_that_is_there():
    assert ignore_label({"labels": {"background": 0, "a": 1, "b": 2}}) == 3
    assert ignore_label({"labels": {"background": 0, "whole": [1, 2, 3], "core": [2]}}) == 4
    assert ignore_label({"labels": {"background": 0, "a": 1, "ignore": 2}}) == 2


def test_a_list_of_files_in_dataset_json_does_not_come_along():
    content = dataset_json_with_ignore({"labels": {"background": 0, "a": 1}, "dataset": {"x": {}}, "more": 5}, 7)
    assert content == {"labels": {"background": 0, "a": 1, "ignore": 2}, "more": 5, "numTraining": 7}


def test_voxels_are_counted_by_label():
    assert voxels_per_label(volume(0, 0, 2, 3), 3) == {"0": 2, "2": 1, "ignore": 1}


def test_the_spacing_of_tif_volumes_goes_into_the_raw_data_of_a_round(tmp_path):
    """What was wrong: nnU-Net found no spacing in the rounds, took 1 mm, and resampled to it."""
    from nnunetv2.imageio.tif_reader_writer import Tiff3DIO

    source, folder = tmp_path / "Dataset001_Tif", tmp_path / "Dataset002_Round"
    for part, name in (("imagesTr", "a_0000"), ("labelsTr", "a"), ("imagesUl", "u_0000")):
        (source / part).mkdir(parents=True)
        properties = {"spacing": (5, 0.7, 0.7)}
        Tiff3DIO().write_seg(np.ones((2, 3, 4), np.uint8), str(source / part / f"{name}.tif"), properties)
        spacing = source / part / f"{name}.json"
        spacing.rename(spacing.with_name(f"{name[0]}.json"))
    Tiff3DIO().write_seg(np.ones((2, 3, 4), np.uint8), str(tmp_path / "u.tif"), {"spacing": (1, 1, 1)})
    content = {"file_ending": ".tif", "labels": {"background": 0, "a": 1}, "channel_names": {"0": "CT"}}
    dataset = SimpleNamespace(raw=source, dataset_json=content)
    write_raw(folder, dataset, SimpleNamespace(with_labels=["a"]), {"u": tmp_path / "u.tif"})
    for case in ("a", "u"):
        image = folder / "imagesTr" / f"{case}_0000.tif"
        assert Tiff3DIO().read_images([str(image)])[1]["spacing"] == [5, 0.7, 0.7]
        assert Tiff3DIO().read_seg(str(folder / "labelsTr" / f"{case}.tif"))[1]["spacing"] == [5, 0.7, 0.7]
