"""A procedural copy of BHSD's layout, with every oddity that users of the real files have reported."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np

SHAPE_XYZ = (10, 8, 4)
SPACING = (0.5, 0.5, 5.0)
TRAIN = (
    "ID_01aa_ID_00000001",
    "ID_02bb_ID_00000002",
    "ID_02bb_ID_00000003",  # the same patient again
    "ID_03cc_ID_00000004",
    "ID_04dd_ID_00000005",
    "ID_05ee_ID_00000006",
)
TEST = ("ID_11aa_ID_00000011", "ID_12bb_ID_00000012")
UNLABELED = ("ID_21aa_ID_00000021", "ID_22bb_ID_00000022", "ID_11aa_ID_00000023")  # the last: a test patient
NAMES = ("background", "epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural")
AFFINE = np.diag([*SPACING, 1.0])


def image_of(case: str) -> np.ndarray:
    """Head-like Hounsfield units, axes x y z."""
    image = np.random.default_rng(list(case.encode())).integers(-20, 80, SHAPE_XYZ).astype(np.int16)
    image[0] = -1000
    return image


def label_of(case: str) -> np.ndarray:
    return np.random.default_rng(list(case.encode())).integers(0, 6, SHAPE_XYZ).astype(np.uint8)


def write(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE, pixdim_z: float | None = None) -> None:
    """Write a NIfTI file; ``pixdim_z`` contradicts the affine."""
    image = nibabel.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    content = bytearray(image.to_bytes())
    if pixdim_z is not None:
        content[88:92] = np.float32(pixdim_z).tobytes()  # pixdim[3] of the header
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(bytes(content), mtime=0))


def write_dataset_json(path: Path, train=TRAIN, test=TEST) -> None:
    content = {
        "labels": {str(value): name for value, name in enumerate(NAMES)},
        "modality": {"0": "CT"},
        "training": [{"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"} for case in train],
        "test": [f"./imagesTs/{case}.nii.gz" for case in test],
    }
    path.write_text(json.dumps(content))


def write_bhsd(root: Path) -> Path:
    """Write a download without any fault and return its folder."""
    folder = root / "BHSD"
    for case in (*TRAIN, *TEST):
        write(folder / "label_192" / "images" / f"{case}.nii.gz", image_of(case))
        write(folder / "label_192" / "ground truths" / f"{case}.nii.gz", label_of(case))
    for case in UNLABELED:
        write(folder / "unlabel_1980" / f"{case}.nii.gz", image_of(case))
    write_dataset_json(folder / "dataset.json")
    return folder


def make_odd(folder: Path) -> None:
    """Give a download the oddities of the real one that can be fixed."""
    images, labels = (folder / "label_192" / name for name in ("images", "ground truths"))
    for name in (images, labels):  # some copies come without the ending
        for path in sorted(name.iterdir())[:2]:
            path.rename(path.with_name(path.name.removesuffix(".nii.gz")))
    shifted = AFFINE.copy()
    shifted[:3, 3] = (3.0, 0.0, -7.5)
    write(labels / f"{TRAIN[3]}.nii.gz", label_of(TRAIN[3]), shifted)  # header of the mask is not the image's
    write(images / f"{TRAIN[4]}.nii.gz", image_of(TRAIN[4]), pixdim_z=4.0)  # uneven slices: two truths
    write(labels / f"{TRAIN[4]}.nii.gz", label_of(TRAIN[4]))
    tilted = AFFINE.copy()
    tilted[1, 2] = 1.5  # slices slide along y: a tilted gantry, which ITK refuses
    write(folder / "unlabel_1980" / f"{UNLABELED[0]}.nii.gz", image_of(UNLABELED[0]), tilted)
    thicker = np.diag([0.5, 0.5, 7.0, 1.0])
    write(folder / "unlabel_1980" / f"{UNLABELED[1]}.nii.gz", image_of(UNLABELED[1]), thicker)
    (folder / "unlabel_1980" / "__MACOSX").mkdir()
    (folder / "unlabel_1980" / "__MACOSX" / "._x.nii.gz").write_bytes(b"junk")


def break_file(folder: Path) -> Path:
    """Cut off one test image: the real download has files that cannot be read."""
    path = folder / "label_192" / "images" / f"{TEST[1]}.nii.gz"
    path.write_bytes(path.read_bytes()[:60])
    return path


def change_json(path: Path, change: Callable[[dict], object]) -> None:
    """Rewrite a json file after ``change`` has changed its content."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
