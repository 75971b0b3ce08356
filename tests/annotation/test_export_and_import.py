"""Pseudo-labels to the annotator and back: a script plays the annotator."""

import gzip
import json

import numpy as np
import pytest
import SimpleITK
import tiny_nnunet
from fake_models import MODEL, TRAINER
from hidden_labels import fill_hidden_labels_with_noise

from nnunet_semisam import cli
from nnunet_semisam.annotation import raw_space
from nnunet_semisam.errors import UserError
from nnunet_semisam.pseudo_labels.session import STORE_FOLDER
from nnunet_semisam.pseudo_labels.store import PseudoLabelStore

HIDDEN = tiny_nnunet.SPLITS[0]["unlabeled"]
POOL = sorted([*HIDDEN, *tiny_nnunet.UNLABELED])


def export(output, *more):
    words = ["pseudo-labels", "export", "-d", "901", "-c", "2d", "-tr", TRAINER, "-o", str(output), "-device", "cpu"]
    return cli.main([*words, "--disable_tta", *more])


def bring_back(output, number="902", *more):
    return cli.main(["pseudo-labels", "import", "-i", str(output), "-d", number, "-np", "1", *more])


def read(file):
    return SimpleITK.ReadImage(str(file))


def voxels(file):
    return SimpleITK.GetArrayFromImage(read(file))


def save(array, like, file):
    image = SimpleITK.GetImageFromArray(array)
    image.CopyInformation(read(like))
    SimpleITK.WriteImage(image, str(file))


def test_annotator_corrects_a_case_and_gets_a_dataset_that_is_labeled_with_it(model_folder, raw, tmp_path, capsys):
    out = tmp_path / "out"
    assert export(out) == 0
    # every case on the voxels of its own image
    for case in POOL:
        part = "imagesUl" if case in tiny_nnunet.UNLABELED else "imagesTr"
        image = read(raw / part / f"{case}_0000.nii.gz")
        assert (out / "images" / f"{case}_0000.nii.gz").read_bytes() == (
            raw / part / f"{case}_0000.nii.gz"
        ).read_bytes()
        for kind in ("labels", "confidence"):
            found = read(out / kind / f"{case}.nii.gz")
            assert (found.GetSize(), found.GetSpacing()) == (image.GetSize(), image.GetSpacing())
            assert (found.GetOrigin(), found.GetDirection()) == (image.GetOrigin(), image.GetDirection())
        confidence = voxels(out / "confidence" / f"{case}.nii.gz")
        assert 1 / 3 - 1e-3 <= confidence.min() <= confidence.max() <= 1
    assert (out / "labels.ctbl").read_text().splitlines()[2:4] == ["0 background 0 0 0 0", "1 shell 86 180 255 255"]
    assert '"ignore"' in (out / "labels_itksnap.txt").read_text()

    # the annotator corrects two cases, one of them in part
    first, second = HIDDEN[0], "free1"
    corrected = np.zeros(tiny_nnunet.SHAPE, np.uint8)
    corrected[2:6, 10:20, 10:20] = 1
    corrected[3:5, 12:16, 12:16] = 2
    save(corrected, out / "labels" / f"{first}.nii.gz", out / "reviewed" / f"{first}.nii.gz")
    partly = np.full(tiny_nnunet.SHAPE, 3, np.uint8)
    partly[4] = corrected[4]
    save(partly, out / "labels" / f"{second}.nii.gz", out / "reviewed" / f"{second}.nii.gz")
    before = {file: file.read_bytes() for file in raw.rglob("*") if file.is_file()}
    assert bring_back(out, "902", "--name", "Corrected") == 0

    # a new dataset; the old one is as it was
    assert {file: file.read_bytes() for file in raw.rglob("*") if file.is_file()} == before
    new = raw.parent / "Dataset902_Corrected"
    np.testing.assert_array_equal(voxels(new / "labelsTr" / f"{first}.nii.gz"), corrected)
    np.testing.assert_array_equal(voxels(new / "labelsTr" / f"{second}.nii.gz"), partly)
    (split,) = json.loads((new / "splits_final.json").read_text())
    assert split == {"train": [*tiny_nnunet.SPLITS[0]["train"], first, second], "val": tiny_nnunet.SPLITS[0]["val"]}
    rest = sorted(set(POOL) - {first, second})
    assert sorted(file.name[:5] for file in (new / "imagesUl").iterdir()) == rest
    assert not any((new / "labelsTr" / f"{case}.nii.gz").exists() for case in rest)
    assert json.loads((new / "dataset.json").read_text())["labels"]["ignore"] == 3
    manifest = json.loads((new / "semisam_manifest.json").read_text())
    assert manifest["settings"]["export"] == {"model": MODEL, "fold": "0", "source": "model, without mirroring"}
    exported = voxels(out / "labels" / f"{first}.nii.gz")
    assert manifest["settings"]["reviewed"][first]["changed_voxels"] == int((exported != corrected).sum())
    assert manifest["sources"][f"labelsTr/{first}.nii.gz"]["source"].endswith(f"out/reviewed/{first}.nii.gz")

    # a second import finds what the first made; an export goes on where it stopped
    capsys.readouterr()
    assert bring_back(out, "902", "--name", "Corrected") == 0
    assert "is already there" in capsys.readouterr().out
    (out / "records" / f"{POOL[0]}.json").unlink()
    times = {file: file.stat().st_mtime_ns for file in (out / "labels").iterdir()}
    assert export(out) == 0
    assert f"1 pseudo-labels written to {out}, {len(POOL) - 1} were there" in capsys.readouterr().out
    again = {file: file.stat().st_mtime_ns for file in (out / "labels").iterdir()}
    assert [file.name for file in times if times[file] != again[file]] == [f"{POOL[0]}.nii.gz"]


def test_hidden_labels_have_no_influence_on_an_export_and_an_import(model_folder, raw, tiny_dataset, tmp_path):
    def there_and_back(out, number):
        assert export(out) == 0
        (out / "reviewed" / "free1.nii.gz").write_bytes((out / "labels" / "free1.nii.gz").read_bytes())
        assert bring_back(out, number, "--name", "Corrected") == 0
        exported = {file.relative_to(out): voxels(file).tobytes() for file in out.rglob("*.nii.gz")}
        return exported, json.loads((raw.parent / f"Dataset{number}_Corrected" / "semisam_manifest.json").read_text())

    before, manifest = there_and_back(tmp_path / "before", "902")
    fill_hidden_labels_with_noise(tiny_dataset)
    after, second = there_and_back(tmp_path / "after", "903")
    assert after == before
    assert second["fingerprint"] == manifest["fingerprint"]


def test_what_is_wrong_with_reviewed_labels_is_told_at_once_and_nothing_is_written(model_folder, raw, tmp_path, capsys):
    out, names = tmp_path / "out", ("free0", "free1")
    assert export(out, "--cases", *names) == 0
    capsys.readouterr()
    assert bring_back(out) == 2
    assert "is empty. Save corrected labels there" in capsys.readouterr().err
    label = voxels(out / "labels" / "free0.nii.gz")
    save(np.full_like(label, 7), out / "labels" / "free0.nii.gz", out / "reviewed" / "free0.nii.gz")
    moved = SimpleITK.GetImageFromArray(label)
    moved.SetSpacing(tiny_nnunet.SPACING)
    SimpleITK.WriteImage(moved, str(out / "reviewed" / "free1.nii.gz"))
    for name in ("case0.nii.gz", "notes.txt"):
        (out / "reviewed" / name).write_bytes(b"no label")
    assert bring_back(out) == 2
    message = capsys.readouterr().err
    assert "4 files are wrong" in message
    assert "free0.nii.gz has the values 7; allowed are 0 (background), 1 (shell), 2 (core), 3 (ignore)" in message
    assert "free1.nii.gz: its origin is [0.0, 0.0, 0.0]" in message
    assert "case0.nii.gz is no corrected label" in message
    assert "notes.txt is no corrected label" in message
    assert sorted(folder.name for folder in raw.parent.iterdir() if folder.is_dir()) == [tiny_nnunet.DATASET]
    for file in (out / "reviewed").iterdir():
        file.unlink()
    save(label, out / "labels" / "free0.nii.gz", out / "reviewed" / "free0.nii.gz")
    image = raw / "imagesUl" / "free0_0000.nii.gz"
    save(voxels(image) + 1, image, image)
    assert bring_back(out) == 2
    assert "the image of free0 changed since the export" in capsys.readouterr().err
    assert bring_back(out, "901") == 2
    assert "Choose another id" in capsys.readouterr().err
    assert bring_back(tmp_path) == 2
    assert "holds no exported pseudo-labels" in capsys.readouterr().err


def test_the_last_round_of_the_training_is_exported_as_it_was_used(model_folder, raw, tmp_path, capsys):
    assert export(tmp_path / "out", "--source", "rounds") == 2
    assert "has no finished round of pseudo-labels" in capsys.readouterr().err
    store = PseudoLabelStore(model_folder / "fold_0" / STORE_FOLDER)
    label = np.zeros(tiny_nnunet.SHAPE, np.int16)
    label[3, 5:9, 20:30] = 2
    confidence = np.where(label == 2, 0.8, 0.2)
    confidence[0] = 0.0
    label[0] = -1  # nothing is claimed there
    store.begin(4)
    store.write(4, "free0", label, confidence)
    store.commit(4, {})
    assert export(tmp_path / "out", "--source", "rounds") == 0
    said = capsys.readouterr().out
    assert "1 pseudo-labels written" in said
    assert "(round 4)" in said
    assert f"{len(POOL) - 1} unlabeled cases have none in this round" in said
    np.testing.assert_array_equal(voxels(tmp_path / "out" / "labels" / "free0.nii.gz"), np.maximum(label, 0))
    np.testing.assert_allclose(voxels(tmp_path / "out" / "confidence" / "free0.nii.gz"), confidence, atol=0.003)
    assert export(tmp_path / "out") == 2
    assert "from another dataset, model or round" in capsys.readouterr().err


def review(out, case, change=lambda label: label):
    label = out / "labels" / f"{case}.nii.gz"
    save(change(voxels(label)), label, out / "reviewed" / f"{case}.nii.gz")


def test_corrections_saved_in_place_are_not_lost(model_folder, raw, tmp_path, capsys):
    out = tmp_path / "out"
    assert export(out, "--cases", "free0", "free1") == 0
    review(out, "free0")
    label = out / "labels" / "free1.nii.gz"
    save(1 - np.minimum(voxels(label), 1), label, label)
    assert bring_back(out) == 2
    message = capsys.readouterr().err
    assert f"{label} was changed" in message
    label.rename(out / "reviewed" / label.name)  # what the message says
    assert bring_back(out) == 2
    assert f"the pseudo-label of {out / 'reviewed' / label.name}, is gone" in capsys.readouterr().err
    assert export(out, "--cases", "free0", "free1") == 0
    assert "1 pseudo-labels written" in capsys.readouterr().out
    assert label.is_file()
    assert bring_back(out) == 0


def test_what_was_deleted_of_an_export_is_written_again(model_folder, raw, tmp_path, capsys):
    out = tmp_path / "out"
    assert export(out, "--cases", "free0", "free1") == 0
    lost = [out / "confidence" / "free0.nii.gz", out / "images" / "free1_0000.nii.gz"]
    for file in lost:
        file.unlink()
    assert export(out, "--cases", "free0", "free1") == 0
    assert "2 pseudo-labels written" in capsys.readouterr().out
    assert all(file.is_file() for file in lost)


def test_predictions_with_and_without_mirroring_are_not_mixed(model_folder, raw, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["pseudo-labels", "export", "-d", "901", "-c", "2d", "-tr", TRAINER, "-o", str(out), "-device", "cpu"]
    assert cli.main([*words, "--cases", "free0"]) == 0
    assert export(out, "--cases", "free1") == 2
    assert "round than now (model, without mirroring)" in capsys.readouterr().err


def test_a_changed_image_is_exported_again(model_folder, raw, tmp_path, capsys):
    out, image = tmp_path / "out", raw / "imagesUl" / "free0_0000.nii.gz"
    assert export(out, "--cases", "free0") == 0
    review(out, "free0")
    save(voxels(image) + 1, image, image)
    assert bring_back(out) == 2
    assert export(out, "--cases", "free0") == 0
    assert "1 pseudo-labels written" in capsys.readouterr().out
    assert bring_back(out) == 0
    save(voxels(image) + 1, image, image)
    save(1 - np.minimum(voxels(out / "labels" / "free0.nii.gz"), 1), image, out / "labels" / "free0.nii.gz")
    assert export(out, "--cases", "free0") == 2
    assert "Move that file away" in capsys.readouterr().err


def test_labels_that_mean_something_else_by_now_are_refused(model_folder, raw, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    assert export(out, "--cases", "free0") == 0
    review(out, "free0", lambda label: np.where(np.arange(label.shape[0])[:, None, None] == 4, label, 3))
    content = json.loads((raw / "dataset.json").read_text())
    (raw / "dataset.json").write_text(json.dumps(content | {"labels": {**content["labels"], "tumor": 3}}))
    assert bring_back(out) == 2
    message = capsys.readouterr().err
    assert "has other labels than at the export" in message
    assert "3 tumor" in message
    (raw / "dataset.json").write_text(json.dumps(content))
    monkeypatch.chdir(raw.parents[1] / "preprocessed")  # another folder of the dataset's name
    assert bring_back(out) == 0


def test_patients_that_test_do_not_train_and_empty_labels_are_told(model_folder, raw, tmp_path, capsys):
    (raw / "imagesTs").mkdir(exist_ok=True)
    for old, new in (("imagesUl/free0", "imagesUl/free_frame01"), ("imagesUl/free1", "imagesUl/free_frame02")):
        (raw / f"{old}_0000.nii.gz").rename(raw / f"{new}_0000.nii.gz")
    out = tmp_path / "out"
    assert export(out) == 0
    review(out, HIDDEN[0], np.zeros_like)
    (raw / "imagesUl" / "free_frame02_0000.nii.gz").rename(raw / "imagesTs" / "free_frame02_0000.nii.gz")
    assert bring_back(out) == 0
    said = capsys.readouterr().out
    assert f"1 of them have no foreground left, and say that there is none: {HIDDEN[0]}" in said
    assert "left out of imagesUl, their patients validate or test: free_frame01" in said
    review(out, "free_frame01")
    assert bring_back(out, "903") == 2
    assert "free_frame01: other cases of these patients" in capsys.readouterr().err
    (out / "reviewed" / "free_frame01.nii.gz").unlink()
    review(out, HIDDEN[0], lambda label: np.full_like(label, 3))
    assert bring_back(out, "903") == 2
    assert "has no voxel but 'ignore'" in capsys.readouterr().err


def test_a_label_of_another_size_is_told_before_it_is_unpacked(model_folder, raw, tmp_path, capsys, monkeypatch):
    """A megabyte of zeros unfolds to a gigabyte."""
    out = tmp_path / "out"
    assert export(out, "--cases", "free0") == 0
    size = np.array(voxels(out / "labels" / "free0.nii.gz").shape) * 2
    large = out / "reviewed" / "free0.nii.gz"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros(size, np.uint8)), str(large))
    original = SimpleITK.ReadImage

    def read_all_but_it(path):
        assert path != str(large), "it was unpacked"
        return original(path)

    monkeypatch.setattr(SimpleITK, "ReadImage", read_all_but_it)
    assert bring_back(out) == 2
    assert "free0.nii.gz: its size is" in capsys.readouterr().err


def test_an_image_whose_header_cannot_be_right_is_refused(tmp_path):
    path = tmp_path / "a.nii.gz"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((2, 3, 4), np.float32)), str(path))
    header = bytearray(gzip.decompress(path.read_bytes()))
    header[80:84] = np.float32(-1).tobytes()  # pixdim[1]
    path.write_bytes(gzip.compress(bytes(header)))
    for read in (raw_space.read_image, raw_space.read_header, lambda path: raw_space.check_axes([path])):
        with pytest.raises(UserError, match="spacing along axis 1 is -1 mm"):
            read(path)
