import json
import shutil
import threading
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import SimpleITK as sitk  # noqa: N813
from nnunet_semisam.dataset_conversion import AcdcConverter, Case, Source
from nnunet_semisam.dataset_conversion.writing import guards, writer
from written_files import visible

from nnunet_semisam.errors import UserError
from nnunet_semisam.io.atomic import temporary_beside
from nnunet_semisam.io.locks import LOCK_FILE
from nnunet_semisam.splits.label_budgets import MANIFEST_FILE

NAME = "Dataset027_ACDC"


def state(folder):
    """Modification time and size of everything in a folder."""
    stats = {path: path.stat() for path in sorted(folder.rglob("*")) if path.name != LOCK_FILE}
    return {path: (stat.st_mtime_ns, stat.st_size) for path, stat in stats.items()}


def test_identical_run_changes_nothing_and_says_so(convert):
    first = convert("--labeled", "2")
    before = state(first.folder)
    again = convert("--labeled", "patient099", "patient038")  # the same two patients by name
    assert not first.already_there
    assert again.already_there
    assert state(first.folder) == before


@pytest.mark.parametrize(
    "options", [("--labeled", "1"), ("--labeled", "2", "3"), ("--labeled", "2", "--split", "5fold")]
)
def test_other_settings_under_the_same_id_are_refused(convert, options):
    before = state(convert("--labeled", "2").folder)
    with pytest.raises(UserError, match=r"exists with other content: its .* differ.* Choose another id with -d"):
        convert(*options)
    assert state(convert("--labeled", "2").folder) == before


def test_other_data_under_the_same_id_are_refused(convert, database):
    convert("--labeled", "2")
    shutil.copy(
        database / "training" / "patient050" / "patient050_frame01.nii.gz",
        database / "training" / "patient050" / "patient050_frame09.nii.gz",
    )
    with pytest.raises(UserError, match=r"its sources differ. \(imagesUl/patient050_frame09_0000.nii.gz\)"):
        convert("--labeled", "2")


@pytest.mark.parametrize("damage", ["unlink", "write"])
def test_dataset_that_was_changed_later_is_noticed(convert, damage):
    path = convert("--labeled", "2").folder / "labelsTr" / "patient099_frame01.nii.gz"
    path.unlink() if damage == "unlink" else path.write_bytes(b"other")
    with pytest.raises(UserError, match=r"was changed after it was made \(1 files: labelsTr/patient099_frame01"):
        convert("--labeled", "2")


@pytest.mark.parametrize("manifest", [None, "{", "3", '{"settings": 1}'])
def test_folder_of_someone_else_is_not_touched(convert, raw, manifest):
    (raw / NAME).mkdir()
    (raw / NAME / "notes.txt").write_text("mine")
    if manifest is not None:
        (raw / NAME / MANIFEST_FILE).write_text(manifest)
    before = state(raw)
    with pytest.raises(UserError, match=r"Choose another id with -d, or move"):
        convert("--labeled", "2")
    assert state(raw) == before


@pytest.mark.parametrize("variable", ["nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"])
def test_id_of_another_dataset_is_refused(convert, nnunet_folders, variable):
    (nnunet_folders[variable] / "Dataset027_Heart").mkdir()
    with pytest.raises(UserError, match=r"id 27 belongs to .*Dataset027_Heart"):
        convert("--labeled", "2")
    assert convert("--labeled", "2", "-d", "28").folder.name == "Dataset028_ACDC"


def test_other_preprocessed_folds_are_refused(convert, nnunet_folders):
    folder = nnunet_folders["nnUNet_preprocessed"] / NAME
    folder.mkdir()
    (folder / "splits_final.json").write_text(json.dumps([{"train": ["a"], "val": ["b"]}]))
    with pytest.raises(UserError, match=r"holds other folds.*Move .*Dataset027_ACDC away"):
        convert("--labeled", "2")
    assert not (nnunet_folders["nnUNet_raw"] / NAME).exists()


def test_equal_preprocessed_folds_are_fine(convert, nnunet_folders):
    folder = nnunet_folders["nnUNet_preprocessed"] / NAME
    folder.mkdir()
    shutil.copy(convert("--labeled", "2").folder / "splits_final.json", folder)
    assert convert("--labeled", "2").already_there


def test_full_disk_is_noticed_before_anything_is_written(convert, raw, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(guards.shutil, "disk_usage", lambda _: usage(2**30, 2**30 - 2**20, 2**20))
    with pytest.raises(UserError, match=r"has 1 MiB free; this dataset needs 64 MiB"):
        convert("--labeled", "2")
    assert visible(raw) == []


@pytest.mark.parametrize(
    ("error", "raised"), [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(28, "No space left on device"), UserError)]
)
def test_broken_run_leaves_nothing(convert, raw, monkeypatch, error, raised):
    written = []

    def fail_at_the_fifth_file(source, target):
        written.append(target)
        if len(written) == 5:
            raise error
        shutil.copyfile(source.path, target)

    monkeypatch.setattr(Source, "write", fail_at_the_fifth_file)
    with pytest.raises(raised):
        convert("--labeled", "2")
    assert len(written) == 5
    assert visible(raw) == []


def test_folder_of_a_killed_run_is_removed_by_the_next(convert, raw):
    left = temporary_beside(raw / NAME)
    (left / "imagesTr").mkdir(parents=True)
    (left / "imagesTr" / "half.nii.gz").write_bytes(b"half")
    assert visible(convert("--labeled", "2").folder.parent) == [NAME]


def test_second_conversion_waits_for_the_first(convert, raw, caplog, monkeypatch):
    pytest.importorskip("fcntl")
    started, go_on = threading.Event(), threading.Event()

    def write_when_told_to(source, target):
        started.set()
        assert go_on.wait(timeout=20)
        shutil.copyfile(source.path, target)

    monkeypatch.setattr(Source, "write", write_when_told_to)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(convert, "--labeled", "2")
        assert started.wait(timeout=20)
        second = pool.submit(convert, "--labeled", "2")
        while "waiting" not in caplog.text:
            assert not second.done()
            time.sleep(0.01)
        go_on.set()
        assert not first.result(timeout=20).already_there
        assert second.result(timeout=20).already_there
    assert visible(raw) == [NAME]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), r"1 files are missing and 0 differ .*\(imagesUl/patient050_frame01_0000.nii.gz\)"),
        (lambda path: path.write_bytes(b"other"), r"0 files are missing and 1 differ"),
    ],
)
def test_dataset_that_is_not_what_was_planned_is_not_published(convert, raw, monkeypatch, spoil, message):
    write_json_files = writer._write_json_files

    def spoil_first(conversion, folder):
        spoil(folder / "imagesUl" / "patient050_frame01_0000.nii.gz")
        write_json_files(conversion, folder)

    monkeypatch.setattr(writer, "_write_json_files", spoil_first)
    with pytest.raises(UserError, match=message):
        convert("--labeled", "2")
    assert visible(raw) == []


def test_folder_that_cannot_be_locked_is_used_with_a_warning(convert, monkeypatch, caplog):
    fcntl = pytest.importorskip("fcntl")

    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    assert not convert("--labeled", "2").already_there
    assert "run one command at a time" in caplog.text


def test_unfinished_folder_is_no_dataset_for_nnunet(raw):
    from nnunetv2.utilities.dataset_name_id_conversion import find_candidate_datasets

    temporary_beside(raw / NAME).mkdir()
    assert len(find_candidate_datasets(27)) == 0


def test_raw_folder_is_made_if_it_is_not_there(convert, raw):
    raw.rmdir()
    assert convert("--labeled", "2").folder.parent == raw


def test_raw_folder_that_is_a_file_is_refused(convert, raw):
    raw.rmdir()
    raw.write_text("a file")
    with pytest.raises(UserError, match="cannot be used as a folder"):
        convert("--labeled", "2")


@pytest.mark.parametrize("dataset_id", ["0", "1000"])
def test_id_must_have_three_digits(convert, dataset_id):
    with pytest.raises(UserError, match="between 1 and 999"):
        convert("--labeled", "2", "-d", dataset_id)


def test_unlabeled_case_cannot_carry_a_label(tmp_path):
    image, label = Source(tmp_path / "a.nii.gz"), Source(tmp_path / "a_gt.nii.gz")
    with pytest.raises(ValueError, match="Ul cases have none"):
        Case("a", (image,), label, "Ul")
    with pytest.raises(ValueError, match="Tr cases have a label"):
        Case("a", (image,), None, "Tr")
    with pytest.raises(ValueError, match="must be one of"):
        Case("a", (image,), None, "Va")


def test_same_image_in_training_and_validation_is_a_fault(convert, database, raw):
    training = database / "training"
    same = sitk.ReadImage(str(training / "patient050" / "patient050_frame01.nii.gz"))
    sitk.WriteImage(same, str(training / "patient028" / "patient028_frame01.nii.gz"), useCompression=False)
    with pytest.raises(UserError, match=r"patient0.._frame01.nii.gz: shows the same voxels as .*patient0.._frame01"):
        convert("--labeled", "2")
    assert visible(raw) == []


def test_same_image_twice_on_one_side_is_a_note(convert, database):
    training = database / "training"
    shutil.copy(
        training / "patient050" / "patient050_frame01.nii.gz", training / "patient050" / "patient050_frame09.nii.gz"
    )
    note = "1 cases show the same voxels as another: patient050_frame09 and patient050_frame01"
    assert note in convert("--labeled", "2").notes
    assert note in convert("--labeled", "2").notes


def test_hidden_labels_of_ct_are_refused_at_once(convert, monkeypatch, raw):
    plan = AcdcConverter.plan
    monkeypatch.setattr(AcdcConverter, "plan", lambda *args: replace(plan(*args), channel_names={"0": "CT"}))
    with pytest.raises(UserError, match="several label budgets in one dataset hide labels, but channel CT"):
        convert("--labeled", "1", "2")
    assert visible(raw) == []
