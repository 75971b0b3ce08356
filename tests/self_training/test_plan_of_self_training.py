"""What a self-training was begun as stays; who is labeled, hidden and validated on comes from the fold."""

import json
import shutil
from dataclasses import replace

import pytest
import tiny_nnunet

from nnunet_semisam.data.datasets import open_dataset
from nnunet_semisam.errors import UserError
from nnunet_semisam.self_training.plan import equal_parts, load_plan, make_plan
from nnunet_semisam.self_training.rounds import RoundOfFold, final_models


def test_the_pool_is_what_the_fold_hides_and_what_imagesul_holds(make):
    plan = make(folds=[0, 1])
    first, second = plan.folds[0], plan.folds[1]
    assert (first.labeled, first.val) == (["case0", "case1"], ["case2"])
    assert first.pool == ["case3", "case4", "case5", "free0", "free1"]
    assert second.pool == ["free0", "free1"]


def test_a_record_that_was_read_is_what_was_written(make):
    plan = make()
    assert load_plan(plan.folder) == replace(plan, settings=dict(plan.settings))


@pytest.mark.parametrize(
    "changed",
    [
        {"threshold": 0.5},
        {"trainer": "nnUNetTrainerSemiSAM"},
        {"settings": {"num_epochs": 9}},
        {"mirroring": False},
        {"select": [0.5]},
        {"folds": [1]},
    ],
)
def test_another_self_training_in_the_same_folder_is_refused(make, changed):
    make()
    with pytest.raises(UserError, match=r"[Gg]ive the same"):
        make(**changed)


def test_other_cases_in_the_fold_are_refused(make, tiny_dataset):
    make()
    path = tiny_dataset / "preprocessed" / tiny_nnunet.DATASET / "splits_final.json"
    splits = json.loads(path.read_text())
    splits[0]["unlabeled"].remove("case5")
    path.write_text(json.dumps(splits))
    with pytest.raises(UserError, match="another folds"):
        make()


def test_fewer_rounds_than_begun_leave_the_record_and_more_are_added(make):
    make(rounds=2)
    plan = make(rounds=1)
    assert load_plan(plan.folder).rounds == 2
    make(rounds=3)
    assert load_plan(plan.folder).rounds == 3


def test_a_fold_without_pool_is_refused(make, tiny_dataset):
    shutil.rmtree(tiny_dataset / "preprocessed" / tiny_nnunet.DATASET / "nnUNetPlans_2d_unlabeled")
    with pytest.raises(UserError, match="nothing to train itself on"):
        make(folds=[1])


def test_a_case_whose_image_is_gone_is_named(make, tiny_dataset):
    (tiny_dataset / "raw" / tiny_nnunet.DATASET / "imagesTr" / "case4_0000.nii.gz").unlink()
    with pytest.raises(UserError, match="case4"):
        make()


def test_a_folder_of_something_else_is_refused(make, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(UserError, match="not a folder of a self-training"):
        make()


@pytest.mark.parametrize(
    ("name", "value"),
    [("dataset", "../elsewhere"), ("rounds", 0), ("trainer", "a b"), ("threshold", 7), ("configuration", "a/b")],
)
def test_a_record_that_was_tampered_with_is_refused(make, name, value):
    plan = make()
    content = json.loads((plan.folder / "self_training.json").read_text())
    (plan.folder / "self_training.json").write_text(json.dumps({**content, name: value}))
    with pytest.raises(UserError, match=name):
        load_plan(plan.folder)


def test_cases_of_a_tampered_record_name_no_other_folder(make):
    plan = make()
    content = json.loads((plan.folder / "self_training.json").read_text())
    content["folds"]["0"]["extra"] = ["../../elsewhere"]
    (plan.folder / "self_training.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="another folder"):
        load_plan(plan.folder)


def test_epochs_of_all_trainings_are_the_total():
    assert equal_parts(20, 3) == [6, 6, 8]
    assert equal_parts(20, 2) == [10, 10]


def test_every_training_has_its_length_and_every_round_its_share(make):
    plan = make(rounds=3, epochs=[1, 1, 1, 3], select=[0.5, 0.75])
    assert [plan.settings_of(index)["num_epochs"] for index in range(4)] == [1, 1, 1, 3]
    assert [plan.share_of(index) for index in (1, 2, 3)] == [0.5, 0.75, 0.75]


def test_models_of_all_folds_of_a_round_lie_in_one_folder(make):
    plan = make(folds=[0, 1], rounds=2)
    folders = {model.model_folder for model in final_models(plan).values()}
    assert len(folders) == 1
    assert folders == {RoundOfFold(plan, 2, 1).model.model_folder}


def test_the_fold_must_exist(tiny_dataset):
    dataset = open_dataset(tiny_nnunet.DATASET, tiny_nnunet.PLANS)
    with pytest.raises(UserError, match="no fold"):
        make_plan(dataset, tiny_nnunet.PLANS, [7], {"configuration": "2d"})


def test_what_is_not_begun_is_nothing(tmp_path):
    assert load_plan(tmp_path) is None


def test_a_cascade_is_refused_before_anything_is_trained(make, tiny_dataset):
    """Of cases without labels there is no prediction of the previous stage."""
    file = tiny_dataset / "preprocessed" / tiny_nnunet.DATASET / f"{tiny_nnunet.PLANS}.json"
    plans = json.loads(file.read_text())
    plans["configurations"]["2d"]["previous_stage"] = "3d_fullres"
    file.write_text(json.dumps(plans))
    with pytest.raises(UserError, match="needs the predictions of 3d_fullres"):
        make()
