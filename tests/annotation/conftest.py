"""Fixtures of the tests around the annotator."""

import shutil
from pathlib import Path

import pytest
import SimpleITK
import tiny_nnunet
from fake_models import write_model


@pytest.fixture
def model_folder(tiny_dataset: Path) -> Path:
    """The model of fold 0, whose student is another network than the deployed one."""
    return write_model(tiny_dataset)


@pytest.fixture
def raw(tiny_dataset):
    """Images of the pool lie obliquely in the patient, and hidden labels are unreadable: nothing opens them."""
    folder = tiny_dataset / "raw" / tiny_nnunet.DATASET
    shutil.copyfile(
        folder / "splits_final.json", tiny_dataset / "preprocessed" / tiny_nnunet.DATASET / "splits_final.json"
    )
    for case in tiny_nnunet.SPLITS[0]["unlabeled"]:
        (folder / "labelsTr" / f"{case}.nii.gz").write_bytes(b"nobody may read this")
    for file in folder.glob("images*/*.nii.gz"):
        image = SimpleITK.ReadImage(str(file))
        image.SetOrigin((12.0, -7.5, 3.0))
        image.SetDirection((0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
        SimpleITK.WriteImage(image, str(file))
    for case in (*tiny_nnunet.SPLITS[0]["train"], *tiny_nnunet.SPLITS[0]["val"]):
        label = SimpleITK.ReadImage(str(folder / "labelsTr" / f"{case}.nii.gz"))
        label.CopyInformation(SimpleITK.ReadImage(str(folder / "imagesTr" / f"{case}_0000.nii.gz")))
        SimpleITK.WriteImage(label, str(folder / "labelsTr" / f"{case}.nii.gz"))
    return folder
