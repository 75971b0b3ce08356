"""What a header says is checked before a voxel is read, and every file that is no image is refused in time."""

import contextlib
import gzip
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnunet_semisam.data import image_headers
from nnunet_semisam.data.image_headers import check_image_header, check_memory
from nnunet_semisam.data.stored_voxels import refuse_cut_off
from nnunet_semisam.errors import UserError

SHAPE = (4, 6, 8)


def write(path: Path, dtype: type = np.float32) -> Path:
    voxels = np.random.default_rng(0).normal(100, 20, SHAPE).astype(dtype)
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((0.75, 1.25, 8.0))
    sitk.WriteImage(image, str(path))
    return path


def edit(path: Path, field: str, value: object, place: int | None = None) -> None:
    """Change a field of a NIfTI header, and nothing else."""
    packed = path.name.endswith(".gz")
    content = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    header = nibabel.Nifti1Header(bytes(content[:348]), check=False)
    if place is None:
        header[field] = value
    else:
        header[field][place] = value
    content[:348] = header.binaryblock
    path.write_bytes(gzip.compress(bytes(content)) if packed else bytes(content))


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mha", ".nrrd"])
@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint8])
def test_images_as_programs_write_them_pass(tmp_path, ending, dtype):
    check_image_header(write(tmp_path / f"a{ending}", dtype))


@pytest.mark.parametrize("slope", [0, np.nan])
def test_missing_scaling_is_no_fault(tmp_path, slope):
    path = write(tmp_path / "a.nii.gz")
    edit(path, "scl_slope", slope)
    check_image_header(path)


@pytest.mark.parametrize(
    ("field", "value", "place", "message"),
    [
        ("pixdim", np.nan, 1, "spacing along axis 1 is nan mm, and must be positive and finite"),
        ("pixdim", 0, 2, "spacing along axis 2 is 0 mm"),
        ("pixdim", -1, 3, "spacing along axis 3 is -1 mm"),
        ("pixdim", np.inf, 1, "spacing along axis 1 is inf mm"),
        ("dim", 0, 1, r"sizes are \(0, 6, 4\), all must be positive"),
        ("dim", -5, 2, "all must be positive"),
        ("dim", 9, 0, "it has 2304 axes, 1 to 7 are possible"),
        ("dim", 32000, 1, "cut off: it has .* bytes, and its header says 3072352 unpacked"),
        ("datatype", 9999, None, "9999"),
        ("vox_offset", 0, None, "voxels begin at byte 0, the first one possible is 352"),
        ("vox_offset", np.nan, None, "voxels begin at byte nan"),
        ("vox_offset", 1e9, None, "cut off"),
        ("magic", b"ni1", None, "magic is b'ni1'"),
        ("sizeof_hdr", 7, None, "its first number is no length of a header, 348"),
        ("scl_slope", np.inf, None, r"scaling is inf x voxel \+ 0, and must be finite"),
        ("scl_inter", np.nan, None, r"scaling is 1 x voxel \+ nan"),
        ("srow_y", np.nan, 2, "srow_x and the following say where it lies, and are not finite"),
    ],
)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_header_that_cannot_be_right_is_refused(tmp_path, ending, field, value, place, message):
    path = write(tmp_path / f"a{ending}")
    edit(path, field, value, place)
    with pytest.raises(UserError, match=rf"a{ending} cannot be read: .*{message}.* Fix or remove it"):
        check_image_header(path)


def test_memory_that_a_header_asks_for_is_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(image_headers, "MOST_BYTES", 4 * np.prod(SHAPE) - 1)
    for ending in (".nii.gz", ".mha", ".nrrd"):
        with pytest.raises(UserError, match=r"8 x 6 x 4 voxels are 0\.0 GiB, at most 0 GiB are read"):
            check_image_header(write(tmp_path / f"a{ending}"))
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"32000 x 512 x 800 voxels are 48\.8 GiB, at most 16 GiB are read"):
        check_memory((32000, 512, 800))


@pytest.mark.parametrize("ending", [".nii.gz", ".mha", ".png"])
def test_what_is_no_file_is_refused_at_once(tmp_path, ending):
    pipe, loop, device, folder = (tmp_path / f"{name}{ending}" for name in ("pipe", "loop", "device", "folder"))
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    device.symlink_to("/dev/zero")
    folder.mkdir()
    for path in (pipe, loop, device, folder, tmp_path / f"nothing{ending}"):
        with pytest.raises(UserError, match=f"{path.name} .*Fix or remove it"):
            check_image_header(path)


def test_voxels_in_another_file_are_refused(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(4 * int(np.prod(SHAPE))))
    meta, nrrd = write(tmp_path / "a.mha"), write(tmp_path / "a.nrrd")
    meta.write_bytes(meta.read_bytes().replace(b"ElementDataFile = LOCAL", b"ElementDataFile = secret"))
    nrrd.write_bytes(nrrd.read_bytes().replace(b"encoding:", b"data file: secret\nencoding:"))
    for path in (meta, nrrd):
        with pytest.raises(UserError, match=r"in the same file\. Fix or remove it"):
            check_image_header(path)


@pytest.mark.parametrize(
    ("ending", "old", "new"),
    [
        (".mha", b"ElementDataFile = LOCAL", b"ElementDataFile : secret\nElementDataFile = LOCAL"),
        (".mha", b"ElementDataFile = LOCAL", b"ElementDataFile: secret"),
        (".MHA", b"ElementDataFile = LOCAL", b"ElementDataFile = secret"),
        (".nrrd", b"encoding:", b"#" * 2**20 + b"\ndata file: secret\nencoding:"),
        (".nrrd", b"encoding:", b"content: a\rdata file: secret\rencoding:"),
        (".NRRD", b"encoding:", b"data file: secret\nencoding:"),
    ],
)
def test_no_way_to_write_a_header_hides_another_file(tmp_path, ending, old, new):
    path = write(tmp_path / f"a{ending.lower()}").rename(tmp_path / f"b{ending}")
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    with pytest.raises(UserError, match=r"in the same file|does not end within 1048576 bytes"):
        check_image_header(path)


@pytest.mark.parametrize("ending", [".mhd", ".nhdr"])
def test_a_header_alone_is_refused(tmp_path, ending):
    with pytest.raises(UserError, match=r"is a header alone, .* save it as \.nii\.gz"):
        check_image_header(write(tmp_path / f"a{ending}"))


def test_packed_stream_that_never_ends_is_left_early(tmp_path):
    path = write(tmp_path / "a.nii.gz")
    with path.open("ab") as file:
        for _ in range(40):
            file.write(gzip.compress(bytes(2**22), 1))
    with pytest.raises(ValueError, match="it goes on behind its voxels, which end at byte 1120"):
        refuse_cut_off(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 355), st.integers(0, 255)), min_size=1, max_size=8), cut=st.booleans())
@pytest.mark.parametrize("ending", [".nii", ".mha", ".nrrd"])
def test_damaged_headers_pass_or_are_named(tmp_path, ending, changes, cut):
    path = write(tmp_path / f"a{ending}")
    content = bytearray(path.read_bytes())
    for place, value in changes:
        content[place] = value
    path.write_bytes(content[: changes[0][0]] if cut else content)
    with contextlib.suppress(UserError):
        check_image_header(path, remedy="")
