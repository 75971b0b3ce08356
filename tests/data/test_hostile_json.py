"""dataset.json, plans and geometry files as others write them, or a power cut tears them: used, or refused by name."""

import contextlib
import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnunet_semisam.data.dataset_json import check_dataset_json
from nnunet_semisam.data.datasets import find_dataset_name, open_dataset
from nnunet_semisam.data.geometry import geometry_file, read_geometry
from nnunet_semisam.data.plans import checked_configuration
from nnunet_semisam.data.raw_files import image_files, label_files, notes_on_unused
from nnunet_semisam.errors import UserError

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
DATASET = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz"}
GEOMETRY = {
    "spacing": [5.0, 1.5, 1.5],
    "origin": [0, 0, 0],
    "direction": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "shape": [3, 4, 5],
    "bbox_used_for_cropping": [[0, 3], [1, 4], [0, 5]],
}
PLANS = {
    "plans_name": "nnUNetPlans",
    "image_reader_writer": "SimpleITKIO",
    "transpose_forward": [0, 1, 2],
    "original_median_spacing_after_transp": [5.0, 1.5, 1.5],
    "original_median_shape_after_transp": [10, 200, 200],
    "foreground_intensity_properties_per_channel": {"0": {"mean": 1.0}},
    "configurations": {},
}
CONFIGURATION = {
    "data_identifier": "nnUNetPlans_2d",
    "architecture": {},
    "preprocessor_name": "DefaultPreprocessor",
    "spacing": [1.5, 1.5],
    "patch_size": [64, 64],
    "normalization_schemes": ["ZScoreNormalization"],
    "use_mask_for_norm": [False],
    "resampling_fn_data": "resample_data_or_seg_to_shape",
    "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
}


# -------------------------------------------------------------------------------------------------- dataset.json


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file_ending": None}, "file_ending must be a text"),
        ({"file_ending": ""}, "file_ending must be a text"),
        ({"file_ending": "/../../x.nii.gz"}, "file_ending must be a text"),
        ({"file_ending": "*"}, "file_ending must be a text"),
        ({"channel_names": None}, "channel_names must be like"),
        ({"channel_names": {}}, "channel_names must be like"),
        ({"channel_names": {"1": "MRI"}}, "channel_names must be like"),
        ({"channel_names": {"0": "a\nb"}}, "cannot be the name of a channel"),
        ({"labels": ["a"]}, "labels must be like"),
        ({"labels": {"a": "1"}}, "labels must be like"),
        ({"labels": {"a": -1}}, "labels must be like"),
        ({"labels": {"a": []}}, "labels must be like"),
        ({"labels": {"": 1}}, "cannot be the name of a label"),
    ],
)
def test_malformed_entry_is_refused(change, message):
    with pytest.raises(UserError, match=rf"dataset\.json: .*{message}.* Correct it"):
        check_dataset_json({**DATASET, **change}, "dataset.json")
    check_dataset_json(DATASET, "dataset.json")


def test_older_name_of_the_channels_is_read():
    check_dataset_json({"file_ending": ".png", "modality": {"0": "CT", "1": "PET"}}, "dataset.json")


@FUZZ
@given(entry=st.sampled_from([*DATASET, "dataset"]), content=JSON)
def test_any_entry_is_used_or_refused(tmp_path, entry, content):
    changed = {**DATASET, entry: content}
    for read in (check_dataset_json, lambda changed, where: image_files(tmp_path, changed)):
        with contextlib.suppress(UserError):
            read(changed, "dataset.json")


@pytest.mark.parametrize("case", ["../../evil", "/evil", "x_seg", "", ".", "a\x00", "a" * 999])
def test_listed_case_with_an_impossible_name_is_refused(tmp_path, case):
    content = {**DATASET, "dataset": {case: {"images": ["a.nii.gz"], "label": "b.nii.gz"}}}
    for read in (image_files, label_files):
        with pytest.raises(UserError, match=r'dataset\.json, "dataset": .* cannot be the name of a case'):
            read(tmp_path, content)


@pytest.mark.parametrize("folder", ["imagesTr", "imagesTs", "labelsTr"])
def test_file_that_nnunets_loader_would_leave_out_is_refused(tmp_path, folder):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / ("x_seg.nii.gz" if folder == "labelsTr" else "x_seg_0000.nii.gz")).touch()
    with pytest.raises(UserError, match=rf"{folder}: 'x_seg' cannot be the name of a case"):
        (label_files if folder == "labelsTr" else image_files)(tmp_path, DATASET)


def test_names_that_are_one_file_elsewhere_are_refused(tmp_path):
    (tmp_path / "imagesTr").mkdir()
    for case in ("case", "CASE"):
        (tmp_path / "imagesTr" / f"{case}_0000.nii.gz").touch()
    with pytest.raises(UserError, match=r"upper from lower case.*CASE and case"):
        image_files(tmp_path, DATASET)


def test_images_without_labels_are_counted(tmp_path):
    for folder, names in (("imagesTr", ("a_0000", "b_0000", "c_0000")), ("labelsTr", ("a",))):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / f"{name}.nii.gz").touch()
    (note,) = notes_on_unused(tmp_path, DATASET)
    assert "2 image(s)" in note
    assert "b, c. Move them to imagesUl" in note


@pytest.mark.parametrize("name", ["\u00b2", "DatasetFoo", "Dataset001_X/../Dataset001_X", "..", "", "-1", "9" * 50])
def test_dataset_that_is_none_is_refused(tmp_path, name):
    for folder in ("DatasetFoo", "Dataset001_X"):
        (tmp_path / folder).mkdir()
    with pytest.raises(UserError, match="dataset"):
        find_dataset_name(tmp_path, name)


# ---------------------------------------------------------------------------------------------------------- plans


def check(change: dict, whole: dict | None = None) -> None:
    plans = {**PLANS, **(whole or {}), "configurations": {"2d": {**CONFIGURATION, **change}}}
    checked_configuration(plans, "2d", DATASET, "nnUNetPlans.json")


def test_usual_plans_are_taken():
    check({})


@FUZZ
@given(entry=st.sampled_from([*CONFIGURATION]), content=JSON)
def test_any_entry_of_a_configuration_is_used_or_refused(entry, content):
    with contextlib.suppress(UserError):
        check({entry: content})


@FUZZ
@given(entry=st.sampled_from([*PLANS]), content=JSON)
def test_any_entry_of_plans_is_used_or_refused(entry, content):
    with contextlib.suppress(UserError):
        check({}, {entry: content})


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"configurations": {"a": []}}', '{"a": 1, "a": 2}', "", "[]", "\x00"]
)
def test_plans_that_are_no_plans_are_refused(tmp_path, monkeypatch, content):
    for name in ("raw", "preprocessed"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
        (tmp_path / name / "Dataset001_X").mkdir(parents=True)
    folder = tmp_path / "preprocessed" / "Dataset001_X"
    (folder / "nnUNetPlans.json").write_text(content)
    (folder / "dataset.json").write_text("{}")
    with pytest.raises(UserError, match=r"nnUNetPlans\.json.* Plan the dataset again"):
        open_dataset("1", "nnUNetPlans")
    with pytest.raises(UserError, match="cannot name plans"):
        open_dataset("1", "../nnUNetPlans")


# ------------------------------------------------------------------------------------------------------- geometry


def write_geometry_file(folder, content: str) -> None:
    file = geometry_file(folder, "a")
    file.parent.mkdir(exist_ok=True)
    file.write_text(content)


@pytest.mark.parametrize(
    "change",
    [
        {"spacing": [10**400, 1, 1]},
        {"spacing": "123"},
        {"spacing": ["1", "1", "1"]},
        {"spacing": [True, 1, 1]},
        {"spacing": [0, 1, 1]},
        {"direction": [[0, 0, 0]] * 3},
        {"shape": [10**30, 1, 1]},
        {"bbox_used_for_cropping": [[3, 0], [0, 4], [0, 5]]},
        {"bbox_used_for_cropping": [[0, 4], [0, 4], [0, 5]]},
        {"bbox_used_for_cropping": [[-1, 3], [0, 4], [0, 5]]},
    ],
)
def test_geometry_that_cannot_be_is_refused(tmp_path, change):
    write_geometry_file(tmp_path, json.dumps({**GEOMETRY, **change}))
    with pytest.raises(UserError, match=r"a\.json does not hold the geometry of a case .* preprocess"):
        read_geometry(tmp_path, "a")


@FUZZ
@given(entry=st.sampled_from([*GEOMETRY]), content=JSON)
def test_any_geometry_is_used_or_refused(tmp_path, entry, content):
    write_geometry_file(tmp_path, json.dumps({**GEOMETRY, entry: content}))
    with contextlib.suppress(UserError):
        geometry = read_geometry(tmp_path, "a")
        assert min(geometry.spacing) > 0


def test_geometry_that_is_no_file_is_refused(tmp_path):
    geometry_file(tmp_path, "a").parent.mkdir()
    os.mkfifo(geometry_file(tmp_path, "a"))
    with pytest.raises(UserError, match=r"a\.json is a pipe"):
        read_geometry(tmp_path, "a")
