"""No name from a file leaves its folder, is hidden, or is taken for something else."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_semisam.errors import UserError
from nnunet_semisam.io.names import case_problem, check_case_name, check_distinct, check_text_name

BAD_CASES = [
    "",
    " ",
    ".",
    "..",
    "../other",
    "/etc/passwd",
    "a/b",
    "a\\b",
    ".hidden",
    "._case",
    "a\0b",
    "a\nb",
    "a\x1b[31mb",
    "a\ud800",
    "case_seg",
    "case_0000",
    " case",
    "case ",
    "x" * 151,
    "é" * 76,
    None,
    7,
    ["case"],
    b"case",
]
GOOD_CASES = [
    "case",
    "patient001_frame01",
    "FLARE22_Tr_0001",
    "liver_0",
    "Fall Ä 7",
    "病例1",
    "a.b",
    "-x",
    "BraTS_00000",
]


@pytest.mark.parametrize("name", BAD_CASES, ids=repr)
def test_a_name_that_could_do_harm_is_refused_with_file_name_reason_and_remedy(name):
    with pytest.raises(UserError, match=r"(?s)dataset\.json: .* cannot be the name of a case: .+\. Rename the case\."):
        check_case_name(name, "dataset.json")


@pytest.mark.parametrize("name", GOOD_CASES)
def test_names_of_real_datasets_are_allowed(name):
    assert check_case_name(name, "dataset.json") == name


@given(st.text(max_size=40))
def test_an_allowed_name_is_one_visible_file_of_its_folder(name):
    if case_problem(name) is None:
        path = os.path.normpath(os.path.join("/data/labelsTr", f"{name}.nii.gz"))
        assert os.path.dirname(path) == "/data/labelsTr"
        assert os.path.basename(path) == f"{name}.nii.gz"
        assert not os.path.basename(path).startswith(".")
        assert os.fsencode(path)


@pytest.mark.parametrize("name", ["", "a\nb", "\ud800", "x" * 201, None, 3])
def test_a_label_that_cannot_be_shown_is_refused(name):
    with pytest.raises(UserError, match="cannot be the name of a label"):
        check_text_name(name, "label", "dataset.json")


@pytest.mark.parametrize("names", [["a", "a"], ["Case1", "case1"], ["é", "é"]])
def test_names_that_are_one_file_on_some_machine_are_refused(names):
    with pytest.raises(UserError, match="one file"):
        check_distinct(names, "imagesTr")
    check_distinct(["a", "b"], "imagesTr")


def test_an_endless_name_does_not_make_an_endless_message():
    with pytest.raises(UserError) as caught:
        check_case_name("x" * 10_000_000, "dataset.json")
    assert len(str(caught.value)) < 1000
