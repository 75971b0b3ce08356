"""``semisam_manifest.json``: what is in the files, and whether another conversion would make the same."""

import hashlib
import json
from dataclasses import replace

import pytest
import SimpleITK as sitk  # noqa: N813
from nnunet_semisam.dataset_conversion import AcdcConverter

from nnunet_semisam.errors import UserError
from nnunet_semisam.splits.label_budgets import MANIFEST_FILE


def test_manifest_describes_what_is_in_the_files(convert, database):
    manifest = json.loads((convert("--labeled", "2").folder / MANIFEST_FILE).read_text())
    source = database / "training" / "patient099" / "patient099_frame01.nii.gz"
    voxels = sitk.GetArrayFromImage(sitk.ReadImage(str(source)))
    facts = manifest["images"]["imagesTr/patient099_frame01_0000.nii.gz"]
    content = repr(voxels.shape).encode() + voxels.astype("<f4").tobytes()
    assert facts == {
        "size": [12, 10, 3],
        "spacing": [1.5, 1.5, 10.0],
        "orientation": "LPS",
        "minimum": voxels.min(),
        "maximum": voxels.max(),
        "voxels": hashlib.sha256(content).hexdigest(),
    }
    assert manifest["sources"].keys() == manifest["images"].keys()


def test_fingerprint_is_of_voxels_and_folds_not_of_files(convert, database):
    first = convert("--labeled", "2")
    assert convert("--labeled", "2").fingerprint == first.fingerprint  # read from the manifest
    path = database / "training" / "patient050" / "patient050_frame01.nii.gz"
    bytes_before = path.read_bytes()
    sitk.WriteImage(sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkFloat32), str(path))
    assert path.read_bytes() != bytes_before
    assert convert("--labeled", "2", "-d", "28").fingerprint == first.fingerprint
    assert convert("--labeled", "1", "-d", "29").fingerprint != first.fingerprint
    image = sitk.ReadImage(str(path))
    image[0, 0, 0] = 2000
    sitk.WriteImage(image, str(path))
    assert convert("--labeled", "2", "-d", "30").fingerprint != first.fingerprint


def change_manifest(folder, change):
    content = json.loads((folder / MANIFEST_FILE).read_text())
    change(content)
    (folder / MANIFEST_FILE).write_text(json.dumps(content))


def test_other_order_of_labeling_under_the_same_id_is_refused(convert, monkeypatch):
    folder = convert("--labeled", "2").folder
    before = (folder / MANIFEST_FILE).read_bytes()
    plan = AcdcConverter.plan

    def plan_another_order(*args):
        planned = plan(*args)
        return replace(planned, grouping=replace(planned.grouping, order=planned.grouping.order[::-1]))

    with monkeypatch.context() as patch:
        patch.setattr(AcdcConverter, "plan", plan_another_order)
        with pytest.raises(UserError, match=r"its grouping differ. \(order\) Choose another id with -d"):
            convert("--labeled", "2")
    assert convert("--labeled", "2").already_there
    assert (folder / MANIFEST_FILE).read_bytes() == before


def test_other_test_sets_under_the_same_id_are_refused(convert, monkeypatch):
    convert("--labeled", "2")
    plan = AcdcConverter.plan
    monkeypatch.setattr(AcdcConverter, "plan", lambda *args: replace(plan(*args), test_sets={"other": []}))
    with pytest.raises(UserError, match=r"its test_sets differ. \(other\) Choose another id with -d"):
        convert("--labeled", "2")


@pytest.mark.parametrize("key", ["grouping", "test_sets", "fingerprint", "files"])
def test_manifest_that_lacks_an_entry_proves_nothing(convert, key):
    folder = convert("--labeled", "2").folder
    change_manifest(folder, lambda content: content.pop(key))
    with pytest.raises(UserError, match=rf"manifest.json lacks '{key}', so it cannot be told .* Choose another id"):
        convert("--labeled", "2")
