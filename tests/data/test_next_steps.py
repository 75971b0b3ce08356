"""Commands for the user fit the data and the machine."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK

from nnunet_semisam.data import next_steps

NIFTI = {"file_ending": ".nii.gz"}


def dataset_of(tmp_path, *shape):
    folder = tmp_path / "Dataset027_ACDC"
    (folder / "imagesTr").mkdir(parents=True)
    image = SimpleITK.GetImageFromArray(np.zeros(shape, np.float32))
    SimpleITK.WriteImage(image, str(folder / "imagesTr" / "a_0000.nii.gz"))
    return folder


@pytest.mark.parametrize(
    ("shape", "expected"), [((1, 8, 8), ["2d"]), ((8, 8), ["2d"]), ((2, 8, 8), ["2d", "3d_fullres"])]
)
def test_a_dataset_of_single_slices_is_trained_in_2d(tmp_path, shape, expected):
    assert next_steps.configurations(dataset_of(tmp_path, *shape), NIFTI) == expected


def test_pictures_are_slices_and_what_cannot_be_read_counts_as_a_volume(tmp_path):
    assert next_steps.is_two_dimensional(tmp_path, {"file_ending": ".png"})
    assert not next_steps.is_two_dimensional(tmp_path, NIFTI), "no image at all"
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "imagesTr" / "a_0000.nii.gz").write_bytes(b"no image")
    assert not next_steps.is_two_dimensional(tmp_path, NIFTI)


def test_a_machine_with_a_gpu_is_told_of_the_whole_network_in_the_wanted_configuration(tmp_path, monkeypatch):
    monkeypatch.setattr(next_steps, "device_option", lambda: "")
    folder = dataset_of(tmp_path, 2, 8, 8)
    assert next_steps.after_preprocessing(folder, NIFTI, "T") == ["nnUNetv2_train 27 3d_fullres 0 -tr T"]
    assert next_steps.after_preprocessing(folder, NIFTI, "T", "2d") == ["nnUNetv2_train 27 2d 0 -tr T"]


@pytest.mark.parametrize(("wanted", "trained"), [("", "2d"), ("3d_fullres", "3d_fullres")])
def test_a_machine_without_a_gpu_is_told_of_a_narrow_network_of_what_was_preprocessed(
    tmp_path, monkeypatch, wanted, trained
):
    monkeypatch.setattr(next_steps, "device_option", lambda: " -device cpu")
    plan, train = next_steps.after_preprocessing(dataset_of(tmp_path, 2, 8, 8), NIFTI, "T", wanted)
    assert plan.startswith("nnunet-semisam plan-mini -d 27 ")
    assert train == f"nnUNetv2_train 27 {trained} 0 -tr T -p nnUNetPlansMini -device cpu"


@pytest.mark.parametrize(
    ("has_gpu", "expected"),
    [
        (True, ["nnUNetv2_train 27 2d 0 -tr T -p Other"]),
        (False, ["-p Other --name OtherMini", "nnUNetv2_train 27 2d 0 -tr T -p OtherMini -device cpu"]),
    ],
)
def test_plans_of_another_name_are_named_and_a_narrow_network_is_made_of_them(tmp_path, monkeypatch, has_gpu, expected):
    torch = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: has_gpu))
    monkeypatch.setitem(sys.modules, "torch", torch)
    found = next_steps.after_preprocessing(dataset_of(tmp_path, 1, 8, 8), NIFTI, "T", plans="Other")
    assert len(found) == len(expected)
    assert all(words in line for line, words in zip(found, expected, strict=True))
