"""Which files belong to which case, in folders and by a list."""

import os

import pytest

from nnunet_semisam.data.raw_files import image_files, label_files
from nnunet_semisam.errors import UserError

ENDING = {"file_ending": ".nii.gz"}


@pytest.fixture
def raw(tmp_path):
    for name in ("imagesTr/a_0000", "imagesTr/a_0001", "imagesTr/._b_0000", "imagesUl/u_0000", "labelsTr/a", "y/b"):
        (tmp_path / f"{name}.nii.gz").parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.nii.gz").touch()
    return tmp_path


def test_files_in_folders_without_hidden_ones(raw):
    images = image_files(raw, ENDING)
    assert images["Tr"] == {"a": tuple(str(raw / "imagesTr" / f"a_000{i}.nii.gz") for i in (0, 1))}
    assert list(images["Ul"]) == ["u"]
    assert label_files(raw, ENDING) == {"a": raw / "labelsTr" / "a.nii.gz"}


def test_listed_files_are_those_that_nnunet_takes(raw, monkeypatch):
    from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

    monkeypatch.setenv("SOMEWHERE", str(raw / "y"))
    entries = {
        "d": {"images": ["y/d_T1.nii.gz", "y/d_T2.nii.gz"], "label": "$SOMEWHERE/d.nii.gz"},
        "b": {"images": [str(raw / "y" / "b.nii.gz")], "label": "y/b.nii.gz"},
    }
    content = {**ENDING, "dataset": entries}
    images, labels = image_files(raw, content), label_files(raw, content)
    nnunet = get_filenames_of_train_images_and_targets(str(raw), content)
    assert {case: [os.path.abspath(file) for file in files] for case, files in images["Tr"].items()} == {
        case: files["images"] for case, files in nnunet.items()
    }
    assert {case: str(file) for case, file in labels.items()} == {case: each["label"] for case, each in nnunet.items()}
    assert list(images["Ul"]) == ["u"]  # the list is of training cases only


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([1], r'dataset.json: "dataset" must map cases to .* got a list. Correct it'),
        ({"a": {"label": "a"}}, r'dataset.json: the entry of a under "dataset" must hold .* Correct it'),
        ({"a": {"images": "a_0000", "label": "a"}}, r"the entry of a .* got \{'images': 'a_0000'"),
        ({"a": 5}, r"the entry of a .* got 5. Correct it"),
    ],
)
def test_malformed_list_is_refused(raw, entries, message):
    for read in (image_files, label_files):
        with pytest.raises(UserError, match=message):
            read(raw, {**ENDING, "dataset": entries})
