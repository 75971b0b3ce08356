"""Every fault of a source: an error that names the file and the remedy, and nothing left behind."""

import json

import fake_acdc
import fake_bhsd
import fake_la
import fake_nnunet
import pytest
from acdc_faults import ACDC_FAULTS
from bhsd_faults import BHSD_FAULTS
from la_faults import LA_FAULTS
from raw_faults import RAW_FAULTS
from written_files import visible

from nnunet_semisam.errors import UserError

FAULTS = {"acdc": ACDC_FAULTS, "bhsd": BHSD_FAULTS, "la": LA_FAULTS, "nnunet": RAW_FAULTS}
OPTIONS = {
    "acdc": ("--labeled", "2"),
    "bhsd": ("--labeled", "2", "--val", "1"),
    "la": ("--labeled", "2", "--val", "1"),
    "nnunet": ("--labeled", "p03", "--val", "p01"),
}


@pytest.fixture
def source(request, tmp_path):
    write = {
        "acdc": fake_acdc.write_database,
        "bhsd": fake_bhsd.write_bhsd,
        "la": fake_la.write_ua_mt,
        "nnunet": lambda path: fake_nnunet.write_raw(path / "Dataset007_Heart"),
    }
    if request.param == "la":
        pytest.importorskip("h5py")
    return write[request.param](tmp_path)


@pytest.mark.parametrize(
    ("source", "name", "fault"),
    [(name, name, fault) for name, faults in FAULTS.items() for fault in faults],
    indirect=["source"],
)
def test_fault_is_named_and_nothing_is_written(source, name, fault, convert_with, raw):
    message = fault(source / "training" / "patient099" if name == "acdc" else source)
    with pytest.raises(UserError, match=message):
        convert_with(name, "-i", str(source), *OPTIONS[name])
    assert visible(raw) == []


@pytest.mark.parametrize(
    ("source", "name", "options", "message"),
    [
        ("la", "la", ("--labeled", "6", "--val", "1"), r"--labeled 6: a number must be between 1 and 5"),
        ("la", "la", ("--labeled", "1", "--val", "6"), r"--val 6: must be between 0 and 5, .* there are 6"),
        ("la", "la", ("--labeled", "1", "--val", "nobody"), r"--val nobody: not among the 6 that can be chosen"),
        ("la", "la", ("--labeled", "06SR", "--val", "06SR"), r"--labeled 06SR: not among the 5"),
        ("la", "la", ("--labeled", "1", "--val", "1GU1", "1GU1"), r"--val names something twice"),
        ("la", "la", ("--labeled", "1", "--leave-out", "nobody"), r"--leave-out nobody: no such case in .* Correct"),
        ("nnunet", "nnunet", ("--labeled", "1", "--group", "("), r"--group '\(' is no regular expression"),
        (
            "nnunet",
            "nnunet",
            ("--labeled", "1", "--group", "^q"),
            r"--group '\^q' finds no group in the case 'p01_frame01'",
        ),
        ("nnunet", "nnunet", ("--labeled", "1", "--name", "a b"), r"'a b' must hold letters, digits"),
        ("nnunet", "nnunet", ("--labeled", "1", "--order", "/no/file"), r"--order /no/file cannot be read"),
    ],
    indirect=["source"],
)
def test_impossible_option_is_refused(source, name, options, message, convert_with, raw):
    with pytest.raises(UserError, match=message):
        convert_with(name, "-i", str(source), *options)
    assert visible(raw) == []


@pytest.mark.parametrize(
    ("line", "message"), [("p09", "names groups without labels: p09"), ("p01\np01", "names something twice")]
)
def test_faulty_order_is_refused(line, message, tmp_path, convert_with, raw):
    source = fake_nnunet.write_raw(tmp_path / "Dataset007_Heart")
    (tmp_path / "order.txt").write_text(line)
    with pytest.raises(UserError, match=rf"order.txt {message}"):
        convert_with("nnunet", "-i", str(source), "--labeled", "1", "--order", str(tmp_path / "order.txt"))
    assert visible(raw) == []


def test_missing_label_of_the_decathlon_is_a_fault(tmp_path, convert_with, raw):
    source = fake_nnunet.write_msd(tmp_path / "Task03_Liver")
    (source / "labelsTr" / "liver_2.nii.gz").unlink()
    with pytest.raises(UserError, match=r"labelsTr/liver_2.nii.gz: is missing; liver_2 needs it. Add it"):
        convert_with("nnunet", "-i", str(source), "--labeled", "1")
    assert visible(raw) == []


@pytest.mark.parametrize("part", ["test", "training"])
@pytest.mark.parametrize("outside", ["../private/scan.nii.gz", "/private/scan.nii.gz"])
def test_a_list_of_the_decathlon_brings_nothing_from_outside_its_folder(part, outside, tmp_path, convert_with, raw):
    source = fake_nnunet.write_msd(tmp_path / "Task03_Liver")
    content = json.loads((source / "dataset.json").read_text())
    content[part].append(outside if part == "test" else {"image": outside, "label": "./labelsTr/liver_1.nii.gz"})
    (source / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"scan\.nii\.gz'?: it leads out of the folder"):
        convert_with("nnunet", "-i", str(source), "--labeled", "1")
    assert visible(raw) == []
