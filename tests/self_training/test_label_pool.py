"""Pseudo-labels are nnU-Net's own predictions, with an ignore label by plain numpy."""

import json

import numpy as np
import pytest
import SimpleITK
import tiny_nnunet
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from test_rounds_of_self_training import finish

from nnunet_semisam.self_training.rounds import RoundOfFold

IGNORE = 3
REGIONS = {"labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2]}


@pytest.fixture(params=["classes", "regions"])
def regions(request, tiny_dataset):
    """Whether the dataset of the test has regions."""
    if request.param == "regions":
        for name in ("raw", "preprocessed"):
            path = tiny_dataset / name / tiny_nnunet.DATASET / "dataset.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), **REGIONS}))
    return request.param == "regions"


def stock_probabilities(model, image):
    """Return nnU-Net's probabilities of a raw image, ``(K, Z, Y, X)``, with mirroring, and its segmentation."""
    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model.model_folder), (model.fold,))
    array, properties = predictor.plans_manager.image_reader_writer_class().read_images([str(image)])
    return predictor.predict_single_npy_array(array, properties, save_or_return_probabilities=True)


def test_a_pseudo_label_is_nnunets_prediction_where_it_is_sure(make, commands, regions, tiny_dataset):
    threshold = 0.55 if regions else 0.4
    plan = make(threshold=threshold, rounds=2)
    assert finish(plan)[0]
    raw = tiny_dataset / "raw" / tiny_nnunet.DATASET
    for index in (1, 2):  # the teacher of round 2 was trained with an ignore label
        place = RoundOfFold(plan, index, 0)
        for case, folder in (("case3", "imagesTr"), ("free1", "imagesUl")):
            segmentation, probabilities = stock_probabilities(
                place.before().model, raw / folder / f"{case}_0000.nii.gz"
            )
            assert len(probabilities) == (2 if regions else 3)
            sure = np.abs(probabilities - 0.5).min(axis=0) + 0.5 if regions else probabilities.max(axis=0)
            wanted = np.where(sure >= threshold, segmentation, IGNORE)
            found = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(place.label_file(case, ".nii.gz"))))
            assert 0 < (found == IGNORE).mean() < 1
            assert (found != wanted).mean() < 1e-3  # a voxel at the threshold may fall on either side
    dataset_json = json.loads((place.data / "nnUNet_raw" / tiny_nnunet.DATASET / "dataset.json").read_text())
    names = ["background", "whole", "core", "ignore"] if regions else ["background", "shell", "core", "ignore"]
    assert list(dataset_json["labels"]) == names
    assert dataset_json["labels"]["ignore"] == IGNORE


def test_without_mirroring_the_confidence_ranks(make, commands):
    plan = make(mirroring=False)
    assert finish(plan)[0]
    record = RoundOfFold(plan, 1, 0).pseudo_label("case3")
    assert (record.mirroring, record.agreement) == (False, None)
    assert record.quality == record.confidence
