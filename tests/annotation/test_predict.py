"""``nnunet-semisam predict``: stock segmentations, and maps beside them."""

import csv
import json

import numpy as np
import pytest
import SimpleITK
import tiny_nnunet
import torch
from fake_models import MODEL, TRAINER, network_of, write_model

from nnunet_semisam import cli
from nnunet_semisam.errors import UserError
from nnunet_semisam.runs.raw_images import ModelPlace, RawImagePredictor


@pytest.fixture
def images(tiny_dataset):
    return tiny_dataset / "raw" / tiny_nnunet.DATASET / "imagesUl"


def predict(images, output, *more):
    words = ["predict", "-i", str(images), "-o", str(output), "-d", "901", "-c", "2d", "-tr", TRAINER, *more]
    return cli.main([*words, "-device", "cpu"])


def read(file):
    return SimpleITK.ReadImage(str(file))


def test_segmentations_are_those_of_nnunet_and_maps_lie_on_the_voxels_of_the_image(model_folder, images, tmp_path):
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    assert predict(images, tmp_path / "out", "--uncertainty") == 0
    stock = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
    stock.initialize_from_trained_model_folder(str(model_folder), (0,))
    for case in tiny_nnunet.UNLABELED:
        image = images / f"{case}_0000.nii.gz"
        array, properties = stock.plans_manager.image_reader_writer_class().read_images([str(image)])
        wanted = stock.predict_single_npy_array(array, properties)
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(read(tmp_path / "out" / f"{case}.nii.gz")), wanted)
        for kind in ("entropy", "disagreement"):
            found = read(tmp_path / "out" / "uncertainty" / f"{case}_{kind}.nii.gz")
            assert (found.GetSize(), found.GetSpacing()) == (read(image).GetSize(), read(image).GetSpacing())
            values = SimpleITK.GetArrayFromImage(found)
            assert values.dtype == np.float32
            assert 0 <= values.min() < values.max() <= 1
    with (tmp_path / "out" / "uncertainty" / "uncertainty.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == tiny_nnunet.UNLABELED
    assert {row["predictions"] for row in rows} == {"8"}  # student and teacher, each of four mirrored images


def test_maps_are_entropies_by_plain_numpy(model_folder, images):
    """Two networks and four mirrored images; this dataset is neither resampled nor cropped."""
    model = RawImagePredictor(ModelPlace(model_folder), "cpu")
    case = model.read([str(images / "free0_0000.nii.gz")])
    views = {name: probs.numpy() for name, probs in model.views(case)}
    assert list(views) == [
        f"network 0 {name}{mirrored}"
        for name in ("deployed", "student")
        for mirrored in ("", ", mirrored 0", ", mirrored 1", ", mirrored 0 1")
    ]
    for name, seed in (("deployed", 1), ("student", 2)):
        model.predictor.network.load_state_dict(network_of(model_folder, seed))
        stack = case.image.transpose(0, 1)  # slices of 40 x 40: one patch of 32 x 32 does not cover them
        with torch.no_grad():
            model.predictor.network.eval()
            corner = model.predictor.network(stack[:, :, 8:, 8:]).softmax(1).transpose(0, 1).numpy()
        np.testing.assert_allclose(views[f"network 0 {name}"][:, :, -1, -1], corner[:, :, -1, -1], atol=1e-2)
    everything = np.stack(list(views.values()))
    np.testing.assert_allclose(everything.sum(axis=1), 1, atol=1e-4)


def test_second_run_predicts_nothing_and_another_model_is_refused(model_folder, images, tmp_path, capsys):
    assert predict(images, tmp_path / "out", "--uncertainty") == 0
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*_entropy.nii.gz")}
    (tmp_path / "out" / "free1.nii.gz").unlink()  # as a kill would leave it
    assert predict(images, tmp_path / "out", "--uncertainty") == 0
    after = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*_entropy.nii.gz")}
    assert {file.name for file in before if after[file] != before[file]} == {"free1_entropy.nii.gz"}
    assert (tmp_path / "out" / "free1.nii.gz").is_file()
    write_model(tiny_root := model_folder.parents[2], fold=1, seed=5)
    assert tiny_root.is_dir()
    capsys.readouterr()
    assert predict(images, tmp_path / "out", "--uncertainty") == 2
    assert "holds predictions of another model" in capsys.readouterr().err


def test_without_the_flag_there_are_segmentations_only(model_folder, images, tmp_path):
    assert predict(images, tmp_path / "out", "--disable_tta") == 0
    found = sorted(file.name for file in (tmp_path / "out").rglob("*"))
    assert found == [".lock", "free0.nii.gz", "free1.nii.gz", "predicted.json"]


def test_segmentations_of_another_model_or_way_are_not_taken_for_those_that_were_asked_for(
    model_folder, images, tmp_path, capsys
):
    out = tmp_path / "out"
    assert predict(images, out, "-f", "0", "--disable_tta") == 0
    before = {case: (out / f"{case}.nii.gz").stat().st_mtime_ns for case in tiny_nnunet.UNLABELED}
    assert predict(images, out, "-f", "0") == 2
    assert "with or without mirroring" in capsys.readouterr().err
    write_model(model_folder.parents[2], fold=1, seed=5)
    assert predict(images, out, "-f", "1", "--disable_tta") == 2
    assert "holds predictions of another model" in capsys.readouterr().err
    image = images / "free0_0000.nii.gz"
    changed = read(image) + 1
    SimpleITK.WriteImage(changed, str(image))
    assert predict(images, out, "-f", "0", "--disable_tta") == 0
    after = {case: (out / f"{case}.nii.gz").stat().st_mtime_ns for case in tiny_nnunet.UNLABELED}
    assert [case for case in before if after[case] != before[case]] == ["free0"]
    (out / "predicted.json").write_text('{"free0": 1}')
    assert predict(images, out, "-f", "0", "--disable_tta") == 2
    assert "predicted.json" in capsys.readouterr().err


def test_a_segmentation_that_a_full_disk_cut_off_is_refused_and_made_again(
    model_folder, images, tmp_path, capsys, monkeypatch
):
    """ITK says nothing: a file of 0 bytes was renamed into place, and no later run mended it."""
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    with monkeypatch.context() as full:
        full.setattr(SimpleITKIO, "write_seg", lambda self, seg, file, properties: open(file, "wb").close())
        assert predict(images, tmp_path / "out", "--disable_tta") == 2
    assert "is the disk full? Make room" in capsys.readouterr().err
    assert [file.name for file in (tmp_path / "out").iterdir()] == [".lock"]
    assert predict(images, tmp_path / "out", "--disable_tta") == 0


def test_what_is_wrong_is_said_at_once(model_folder, images, tmp_path, capsys):
    assert predict(tmp_path, tmp_path / "out") == 2
    assert "holds no image named CASE_0000.nii.gz" in capsys.readouterr().err
    assert predict(images, tmp_path / "out", "-f", "3") == 2
    assert "There is no checkpoint" in capsys.readouterr().err
    assert predict(images, tmp_path / "out", "-chk", "../other.pth") == 2
    assert "not a path" in capsys.readouterr().err
    flat = tmp_path / "flat"
    flat.mkdir()
    SimpleITK.WriteImage(read(images / "free0_0000.nii.gz")[:, :, 0], str(flat / "flat_0000.nii.gz"))
    assert predict(flat, tmp_path / "out", "--uncertainty") == 2
    assert "has 2 axes and must have 3: maps are written on its voxels" in capsys.readouterr().err
    assert not (tmp_path / "out").exists(), "nothing was predicted yet"
    assert predict(images, images) == 2
    assert "-i and -o are the same folder" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert predict(images, tmp_path / "file") == 2
    assert "is no folder. Choose another -o" in capsys.readouterr().err
    assert json.loads((model_folder / "dataset.json").read_text())["labels"]
    assert MODEL in str(model_folder)


@pytest.mark.parametrize("axes", [[0] * 22, [5], 5, ["x"], [0, 0]])
def test_axes_that_no_image_has_are_not_mirrored_along(model_folder, tmp_path, axes):
    """What was wrong: every subset of the axes is a view, and a file may name any number of them."""
    file = model_folder / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(file, weights_only=False)
    torch.save(checkpoint | {"inference_allowed_mirroring_axes": axes}, file)
    with pytest.raises(UserError, match="inference_allowed_mirroring_axes must be some of 0, 1, each once"):
        RawImagePredictor(ModelPlace(model_folder, ("0",)), "cpu")
