import json

import pytest

from nnunet_semisam.data.datasets import environment_folder, find_dataset_name, open_dataset
from nnunet_semisam.errors import UserError


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """A dataset with plans; returns the folder above raw and preprocessed."""
    for name in ("raw", "preprocessed"):
        (tmp_path / name / "Dataset027_ACDC").mkdir(parents=True)
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    plans = {"plans_name": "nnUNetPlans", "configurations": {"2d": {}, "3d_lowres": {}, "3d_cascade_fullres": {}}}
    folder = tmp_path / "preprocessed" / "Dataset027_ACDC"
    (folder / "nnUNetPlans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps({"labels": {}}))
    return tmp_path


@pytest.mark.parametrize("name", ["27", "027", "Dataset027_ACDC"])
def test_dataset_is_found_by_id_or_name(planned, name):
    found = open_dataset(name, "nnUNetPlans")
    assert found.raw == planned / "raw" / "Dataset027_ACDC"
    assert found.preprocessed == planned / "preprocessed" / "Dataset027_ACDC"
    assert found.dataset_json == {"labels": {}}


def test_cascade_has_no_data_of_its_own(planned):
    found = open_dataset("27", "nnUNetPlans")
    assert found.preprocessable_configurations() == ["2d", "3d_lowres"]
    found.check_configuration("3d_lowres")
    with pytest.raises(UserError, match=r"no configuration '3d_fullres'\. They have: 2d, 3d_lowres"):
        found.check_configuration("3d_fullres")


def test_dataset_that_is_missing_or_twice_there_is_refused(planned):
    with pytest.raises(UserError, match=r"no dataset 5 in .*There are: Dataset027_ACDC\."):
        find_dataset_name(planned / "raw", "5")
    with pytest.raises(UserError, match=r"no dataset Dataset005_X in "):
        find_dataset_name(planned / "raw", "Dataset005_X")
    (planned / "raw" / "Dataset027_Twin").mkdir()
    with pytest.raises(UserError, match="have the id 27: Dataset027_ACDC, Dataset027_Twin"):
        find_dataset_name(planned / "raw", "27")
    with pytest.raises(UserError, match="named by its id"):
        find_dataset_name(planned / "raw", "ACDC")
    with pytest.raises(UserError, match=r"no dataset 27 in .*There is no such folder"):
        find_dataset_name(planned / "elsewhere", "27")


def test_dataset_that_was_not_planned_says_what_to_run(planned):
    with pytest.raises(UserError, match=r"There is no .*OtherPlans\.json\. .*nnUNetv2_plan_and_preprocess -d 27"):
        open_dataset("27", "OtherPlans")


def test_variable_that_is_not_set_is_named(monkeypatch):
    monkeypatch.setenv("nnUNet_preprocessed", "/somewhere")
    for name in ("nnUNet_raw", "nnUNet_results"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=r"nnUNet_raw is not set\. Say: export nnUNet_raw=/\S+, .*nnUNet_results$"):
        environment_folder("nnUNet_raw")
