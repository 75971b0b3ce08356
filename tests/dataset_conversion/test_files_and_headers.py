"""What a file is, and what its header says, is known before a voxel is read; one bad file hides no other."""

import gzip
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import fake_acdc
import fake_bhsd
import fake_formats
import fake_la
import fake_nnunet
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from nnunet_semisam.dataset_conversion import Source
from written_files import cases as names
from written_files import visible

from nnunet_semisam.errors import UserError

NAN, INF = float("nan"), float("inf")
UNLABELED_NIFTI = "imagesUl/u01_frame01_0000.nii.gz"


def make_pipe(path):
    os.mkfifo(path)


def make_endless(path):
    path.symlink_to("/dev/zero")


def make_dangling(path):
    path.symlink_to("nowhere")


def make_loop(path):
    path.symlink_to(path.name)


SPECIAL = [make_pipe, make_endless, make_dangling, make_loop, Path.mkdir]

# Kind of source: how it is written, the words that convert it, and files of it that must be there to be read.
SOURCES = {
    "nnunet": (
        lambda root: fake_nnunet.write_raw(root / "Dataset007_Heart"),
        ("nnunet", "--labeled", "p01", "--val", "p02"),
        ("imagesTr/p01_frame01_0000.nii.gz", "labelsTr/p01_frame01.nii.gz", UNLABELED_NIFTI),
    ),
    "msd": (
        lambda root: fake_nnunet.write_msd(root / "Task03_Liver"),
        ("nnunet", "--labeled", "liver_1", "--val", "liver_2"),
        ("imagesTr/liver_3.nii.gz", "imagesTs/liver_9.nii.gz"),
    ),
    "tif": (
        lambda root: fake_formats.write_tifs(root / "Dataset009_Tif"),
        ("nnunet", "--labeled", "c1", "--val", "c0"),
        ("imagesTr/c2_0000.tif", "imagesTr/c1.json"),
    ),
    "acdc": (
        fake_acdc.write_database,
        ("acdc", "--labeled", "2"),
        ("training/patient050/patient050_frame01.nii.gz", "training/patient099/Info.cfg"),
    ),
    "bhsd": (
        fake_bhsd.write_bhsd,
        ("bhsd", "--labeled", "2", "--val", "1"),
        (f"unlabel_1980/{fake_bhsd.UNLABELED[0]}.nii.gz", "dataset.json"),
    ),
    "la": (
        fake_la.write_ua_mt,
        ("la", "--labeled", "2", "--val", "1"),
        ("2018LA_Seg_Training Set/0RZD/mri_norm2.h5", "train.list"),
    ),
}
FILES = [(kind, file) for kind, (_, _, files) in SOURCES.items() for file in files]


@pytest.fixture
def write(tmp_path):
    def write(kind: str) -> Path:
        if kind == "la":
            pytest.importorskip("h5py")
        return SOURCES[kind][0](tmp_path)

    return write


@pytest.fixture
def convert(convert_with):
    def run(kind, source, *options):
        name, *words = SOURCES[kind][1]
        return convert_with(name, "-i", str(source), *words, *options)

    return run


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
@pytest.mark.parametrize("make", SPECIAL)
@pytest.mark.parametrize(("kind", "file"), FILES)
def test_what_is_no_regular_file_is_refused_in_time(convert, write, raw, kind, file, make):
    source = write(kind)
    (source / file).unlink()
    make(source / file)
    with pytest.raises(UserError, match=Path(file).name.replace(".", r"\.")):
        convert(kind, source)
    assert visible(raw) == []


def test_all_bad_files_are_told_at_once_and_can_be_left_out(convert, write, raw):
    source = write("nnunet")
    (source / "imagesTr" / "p01_frame01_0000.nii.gz").unlink()
    make_loop(source / "imagesTr" / "p01_frame01_0000.nii.gz")  # the kind of file
    set_header(source / "labelsTr" / "p02_frame01.nii.gz", 40, "8h", 3, 9000, 9000, 900, 1, 1, 1, 1)  # the header
    sitk.WriteImage(fake_nnunet.volume("p02", 7), str(source / "labelsTr" / "p02_frame02.nii.gz"))  # the voxels
    case = source / "imagesTs" / "t01_frame01"
    for channel in ("0000", "0001"):
        Path(f"{case}_{channel}.nii.gz").rename(case.with_name(f"t_seg_{channel}.nii.gz"))  # the name
    with pytest.raises(UserError) as caught:
        convert("nnunet", source)
    bad = ["p01_frame01", "p02_frame01", "p02_frame02", "t_seg"]
    assert "4 problems" in str(caught.value)
    for case in bad:
        findings, leave_out = str(caught.value).split("Or leave cases out: ")
        assert f"{case}_0000.nii.gz" in findings or f"labelsTr/{case}.nii.gz" in findings
        assert case in leave_out
    assert visible(raw) == []
    result = convert("nnunet", source, "--leave-out", *bad, "--labeled", "p01", "--val", "p04")
    assert names(result.folder / "imagesTr") == ["p01_frame02", "p04_frame01", "p04_frame02"]


def set_header(path: Path, offset: int, form: str, *values: float) -> None:
    """Write numbers into the header of a NIfTI file."""
    packed = path.name.endswith(".gz")
    content = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    struct.pack_into("<" + form, content, offset, *values)
    path.write_bytes(gzip.compress(bytes(content)) if packed else bytes(content))


NIFTI_FAULTS = {
    "more voxels than memory": (40, "8h", 3, 32767, 32767, 32767, 1, 1, 1, 1),
    "more voxels than the file": (40, "8h", 3, 2000, 2000, 100, 1, 1, 1, 1),
    "negative size": (40, "8h", 3, 8, -6, 3, 1, 1, 1, 1),
    "size 0": (40, "8h", 3, 8, 0, 3, 1, 1, 1, 1),
    "no axis": (40, "h", 0),
    "200 axes": (40, "h", 200),
    "spacing NaN": (80, "3f", 1, NAN, 3),
    "spacing infinite": (80, "3f", 1, INF, 3),
    "spacing 0": (80, "3f", 1, 0, 3),
    "spacing negative": (80, "3f", 1, -2, 3),
    "scale infinite": (112, "2f", INF, 0),
    "shift NaN": (112, "2f", 1, NAN),
    "voxels in the header": (108, "f", 0),
    "voxels at NaN": (108, "f", NAN),
    "voxels in another file": (344, "4s", b"ni1\0"),
    "affine NaN": (280, "4f", NAN, 0, 0, 0),
}


@pytest.mark.parametrize("fault", NIFTI_FAULTS.values(), ids=NIFTI_FAULTS.keys())
@pytest.mark.parametrize("file", [UNLABELED_NIFTI, "labelsTr/p01_frame01.nii.gz"])
def test_nifti_header_is_checked_before_voxels_are_read(convert, write, raw, monkeypatch, file, fault):
    source = write("nnunet")
    set_header(source / file, *fault)
    read: list[Path] = []
    monkeypatch.setattr(Source, "read", lambda self, read_file=Source.read: read.append(self.path) or read_file(self))
    with pytest.raises(UserError, match=rf"{Path(file).name}:? cannot be read.* Download or export it again"):
        convert("nnunet", source)
    assert source / file not in read
    assert len(read) > 10  # the others were looked at
    assert visible(raw) == []


@pytest.mark.parametrize("spacing", [1e30, 1e-30])
def test_absurd_spacing_is_refused(convert, write, raw, spacing):
    source = write("nnunet")
    set_header(source / UNLABELED_NIFTI, 80, "3f", 1, spacing, 3)
    with pytest.raises(UserError, match=r"u01_frame01_0000.nii.gz:? cannot be read: its spacing is"):
        convert("nnunet", source)
    assert visible(raw) == []


def with_first(value: float, dtype: str) -> np.ndarray:
    array = np.random.default_rng(0).random(fake_nnunet.SHAPE).astype(dtype)
    array[0, 0, 0] = value
    return array


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (with_first(1e300, "f8"), r"float32 holds 3.4e\+38 at most"),
        (with_first(NAN, "f4"), "1 of 144 voxels are NaN or infinite"),
        (with_first(-INF, "f8"), "1 of 144 voxels are NaN or infinite"),
        (with_first(1, "c8"), "its voxels are complex"),
    ],
    ids=["too large", "NaN", "infinite", "complex"],
)
def test_voxels_are_finite_as_nnunet_reads_them(convert, write, raw, array, message):
    source = write("nnunet")
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.0, 2.0, 3.0))
    sitk.WriteImage(image, str(source / UNLABELED_NIFTI))
    with pytest.raises(UserError, match=rf"u01_frame01_0000.nii.gz.*{message}"):
        convert("nnunet", source)
    assert visible(raw) == []


def test_stream_that_never_ends_behind_its_voxels_is_refused(convert, write):
    source = write("nnunet")
    path = source / UNLABELED_NIFTI
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content) + 100 * gzip.compress(bytes(2**20)))
    with pytest.raises(UserError, match=r"u01_frame01_0000.nii.gz:? cannot be read.*behind its voxels"):
        convert("nnunet", source)


def change_text_header(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("ending", "old", "new"),
    [
        (".mha", b"ElementDataFile = LOCAL", b"ElementDataFile = /etc/hostname"),
        (".mha", b"DimSize = 8 6 3", b"DimSize = 30000 30000 30000"),
        (".mha", b"ElementSpacing = 1 2 3", b"ElementSpacing = 1 0 3"),
        (".nrrd", b"encoding: raw", b"encoding: raw\ndata file: /etc/hostname"),
        (".nrrd", b"sizes: 8 6 3", b"sizes: 30000 30000 30000"),
        (".nrrd", b"(1,0,0)", b"(nan,0,0)"),
    ],
)
def test_header_of_text_is_checked_and_names_no_other_file(convert_with, tmp_path, raw, ending, old, new):
    source = fake_nnunet.write_raw(tmp_path / "Dataset007_Heart", ending)
    path = source / "imagesUl" / f"u01_frame01_0000{ending}"
    assert old in path.read_bytes()
    change_text_header(path, lambda content: content.replace(old, new))
    with pytest.raises(UserError, match=rf"u01_frame01_0000{ending}:? cannot be read"):
        convert_with("nnunet", "-i", str(source), "--labeled", "2")
    assert visible(raw) == []


def in_h5(**arrays: object) -> Callable:
    def write(file, image, label):
        for key, value in {"image": image, "label": label, **arrays}.items():
            file[key] = value

    return write


def huge_label(file, image, label):
    file["image"] = image
    file.create_dataset("label", shape=(10**4, 10**4, 10**4), dtype="u1", chunks=(64, 64, 64))


def huge_image(file, image, label):
    file.create_dataset("image", shape=(10**4, 10**4, 10**4), dtype="f4", chunks=(64, 64, 64))
    file["label"] = label


def group_for_image(file, image, label):
    file.create_group("image")
    file["label"] = label


def link_for_image(file, image, label):
    import h5py

    file["image"] = h5py.ExternalLink("/etc/none.h5", "/image")
    file["label"] = label


def bytes_of_another_file(file, image, label):
    file.create_dataset("image", shape=(7, 6, 5), dtype="u1", external=[("/etc/hostname", 0, 210)])
    file["label"] = label


def nothing_in_space(file, image, label):
    import h5py

    file["image"] = h5py.Empty("f4")
    file["label"] = label


IMAGE, LABEL = fake_la.arrays("0RZD")
H5_FAULTS = {
    "text": (in_h5(image="hello"), "image must have the axes x y z"),
    "texts": (in_h5(image=np.full(IMAGE.shape, b"x")), "voxels are of the type"),
    "complex": (in_h5(image=IMAGE.astype("c8")), "voxels are of the type complex64"),
    "no voxels": (in_h5(image=np.zeros((0, 3, 3))), "all must be positive"),
    "NaN": (in_h5(image=np.where(IMAGE > 2, NAN, IMAGE)), "voxels are NaN"),
    "too large": (in_h5(image=np.where(IMAGE > 1, 1e300, IMAGE.astype("f8"))), "float32 holds"),
    "label of NaN": (in_h5(label=np.where(LABEL, NAN, 0.0)), "label values nan"),
    "label of halves": (in_h5(label=LABEL * 0.5), "label values 0.5"),
    "label of other shape": (in_h5(label=LABEL[:-1]), "size is"),
    "huge label": (huge_label, "at most 16 GiB are read"),
    "huge image": (huge_image, "at most 16 GiB are read"),
    "group": (group_for_image, "must be an array"),
    "link": (link_for_image, "must be in the file"),
    "other file": (bytes_of_another_file, "lies in another file"),
    "nothing": (nothing_in_space, "has the shape None"),
}


@pytest.mark.parametrize(("fault", "message"), H5_FAULTS.values(), ids=H5_FAULTS.keys())
def test_arrays_of_an_h5_file_are_checked(convert, write, raw, fault, message):
    source = write("la")
    import h5py

    with h5py.File(source / "2018LA_Seg_Training Set" / "0RZD" / "mri_norm2.h5", "w") as file:
        fault(file, IMAGE, LABEL)
    with pytest.raises(UserError, match=rf"0RZD/mri_norm2.h5.*{message}"):
        convert("la", source)
    assert visible(raw) == []


@pytest.mark.parametrize("kind", ["f2", ">f4", "u8", "f8"])
def test_arrays_of_any_type_of_number_are_read(convert, write, kind):
    source = write("la")
    fake_la.write_h5(source / "2018LA_Seg_Training Set", "0RZD", image=(10 * abs(IMAGE)).astype(kind))
    written = convert("la", source).folder / "imagesTr" / "0RZD_0000.nii.gz"
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(sitk.ReadImage(str(written))).transpose(2, 1, 0), (10 * abs(IMAGE)).astype(kind)
    )


@pytest.mark.parametrize(
    "spacing", [[NAN, 1, 1], [0, 1, 1], [-1, 1, 1], ["1", 1, 1], [True, 1, 1], [10**400, 1, 1], [1e30, 1, 1], "123", {}]
)
def test_spacing_beside_a_tif_is_three_lengths(convert, write, raw, spacing):
    source = write("tif")
    (source / "imagesTr" / "c1.json").write_text(json.dumps({"spacing": spacing}))
    with pytest.raises(UserError, match=r"c1.json"):
        convert("tif", source)
    assert visible(raw) == []


def test_tif_that_is_cut_off_is_refused(convert, write, raw):
    source = write("tif")
    path = source / "imagesTr" / "c2_0000.tif"
    path.write_bytes(path.read_bytes()[:306])
    with pytest.raises(UserError, match=r"c2_0000.tif:? cannot be read"):
        convert("tif", source)
    assert visible(raw) == []


def test_image_that_a_full_disk_has_cut_off_is_not_published(convert, write, raw, monkeypatch):
    write_image = sitk.WriteImage

    def write_half(image, path, **options):  # ITK prints a line and returns
        write_image(image, path, **options)
        os.truncate(path, os.path.getsize(path) // 2)

    source = write("la")
    monkeypatch.setattr(sitk, "WriteImage", write_half)
    with pytest.raises(UserError, match=r"it was not written whole, is the disk full\?.* Nothing was left behind"):
        convert("la", source)
    assert visible(raw) == []
