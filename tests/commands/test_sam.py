from __future__ import annotations

import errno
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch

from nnunet_semisam import cli
from nnunet_semisam.io.locks import folder_lock
from nnunet_semisam.io.tensor_files import read_tensors
from nnunet_semisam.sam import build_backend
from nnunet_semisam.sam.evaluate import BLANK, CONTROLS, KINDS
from nnunet_semisam.sam.families import AUTO, FAMILIES
from nnunet_semisam.sam.labeled_cases import LabeledCase, to_slices
from nnunet_semisam.sam.nano import pretrain
from nnunet_semisam.sam.nano.labeled_source import LabeledSource
from nnunet_semisam.sam.nano.model import build_nano_sam


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two cases of three slices: a disc (2) in a ring (1) that are easy to see, with 3 as ignore label."""
    folder = tmp_path / "raw" / "Dataset031_Rings"
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    rows, columns = np.mgrid[:40, :48]
    for number in range(2):
        distance = np.hypot(rows - 18 - number, columns - 22)
        label = np.where(distance < 6, 2, np.where(distance < 11, 1, 0)).astype(np.uint8)
        label[0, 0] = 3
        volume = np.stack([label] * 3)
        image = np.choose(volume, (10, 60, 200, 10)).astype(np.float32)
        for array, name in ((image, f"imagesTr/case{number}_0000"), (volume, f"labelsTr/case{number}")):
            file = sitk.GetImageFromArray(array)
            file.SetSpacing((1.0, 1.0, 5.0))
            sitk.WriteImage(file, str(folder / f"{name}.nii.gz"))
    labels = {"background": 0, "ring": 1, "disc": 2, "ignore": 3}
    description = {"channel_names": {"0": "MR"}, "labels": labels, "numTraining": 2, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def run(*words: str) -> int:
    return cli.main(["sam", *words])


def test_slices_in_which_an_object_is_annotated_in_part_are_not_shown_to_a_sam():
    label = np.zeros((4, 9, 9), np.int16)
    label[:3, 3:6, 3:6] = 1
    label[1, 5, 3:6] = 3  # the rest of the object was not annotated
    label[2, 0, 0] = label[3] = 3  # far from the object; a slice that nobody annotated
    image = np.arange(4.0).repeat(81).reshape(1, 4, 9, 9).astype(np.float32)
    images, labels = to_slices(LabeledCase("a", image, label, (5.0, 1.0, 1.0), ignore=3))
    assert images[:, 0, 0, 0].tolist() == [0, 2, 3]
    np.testing.assert_array_equal(labels, label[[0, 2, 3]])


def test_list_shows_every_model_and_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("nnUNet_sam", str(tmp_path))
    (tmp_path / "sam_vit_l_0b3195.pth").touch()
    with (tmp_path / "sam_vit_b_01ec64.pth").open("wb") as file:
        file.truncate(FAMILIES["vit_b"].size)
    assert run("list") == 0
    lines = capsys.readouterr().out.splitlines()
    models = [row for row in FAMILIES.values() if row.name != AUTO]
    assert [line.split("  ")[0] for line in lines[3:-2]] == [row.name for row in models]
    told = {row.name: line for row, line in zip(models, lines[3:-2], strict=True)}
    assert "here, 375 MB" in told["vit_b"]
    assert "here, not whole, 1250 MB" in told["vit_l"]
    assert max(map(len, lines)) <= 120
    assert run("list", *[row.name for row in models]) == 0
    blocks = capsys.readouterr().out.strip().split("\n\n")
    assert [block.split(":")[0] for block in blocks[1:]] == [row.name for row in models]
    for block, row in zip(blocks[1:], models, strict=True):
        assert ("weights: present" in block) == (row.name in ("nano", "vit_b", "vit_l"))
        assert row.licence in block
        assert ", ".join(row.prompts) in block
        assert row.packaged or str(row.sha256 or "SHA-256: not published") in block


def test_weights_without_a_published_hash_are_not_fetched_but_their_page_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("nnUNet_sam", str(tmp_path))
    row = replace(FAMILIES["vit_l"], url=None, sha256=None, page="https://example.org/weights")
    monkeypatch.setitem(FAMILIES, "vit_l", row)
    assert run("download", "vit_l") == 2
    told = capsys.readouterr().err
    assert "by hand from https://example.org/weights" in told
    assert "no SHA-256" in told


def test_download_says_that_there_is_no_place_for_weights(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("nnUNet_sam", raising=False)
    assert run("download", "vit_b") == 2
    told = capsys.readouterr().err
    assert "nnUNet_sam is not set" in told
    assert "export nnUNet_sam=" in told


def test_evaluate_reports_every_kind_beside_the_controls(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("nnUNet_raw", str(dataset.parent))
    assert run("evaluate", "--data", "31", "--csv", str(tmp_path / "out.csv"), "--device", "cpu") == 0
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [cell.strip() for cell in rows[0]] == ["prompt", "ring", "disc", "mean"]
    table = {row[0].strip(): [float(cell) for cell in row[1:]] for row in rows[1:]}
    assert list(table) == [*CONTROLS, *KINDS, f"{KINDS[-1]}, {BLANK}"]
    assert table[CONTROLS[0]][1] > 0.9  # a disc is the ellipse in its box
    # 21 pixels across: ellipse of radius 10.5, ring of radii 6 and 11: Dice 2 (110 - 36) / (110 + 121 - 36) = 0.76
    assert table[CONTROLS[0]][0] == pytest.approx(0.76, abs=0.04)
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 1 + 2 * 2 * len(table)


def test_evaluate_explains_what_it_was_not_given(
    dataset: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("nnUNet_raw", str(dataset.parent))
    assert run("evaluate", "--data", "77") == 2
    assert "neither a folder" in capsys.readouterr().err
    assert run("evaluate", "--data", str(dataset), "--channel", "4") == 2
    assert "channels 0 to 0" in capsys.readouterr().err
    assert run("evaluate", "--data", str(dataset), "--device", "toaster") == 2
    assert "--device 'toaster' is not allowed here. Allowed: cpu" in capsys.readouterr().err
    assert run("evaluate", "--data", str(dataset), "--device", "meta") == 2
    assert "--device 'meta' is not allowed here" in capsys.readouterr().err


def test_pretrain_on_own_data_makes_weights_that_the_backend_loads(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pretrain, "validation_dice", lambda *a, **k: {"box": 0.0})
    words = ("--steps", "2", "--images", "1", "--prompts", "1", "--workers", "0", "--device", "cpu")
    out = tmp_path / "nano"
    assert run("pretrain", "--out", str(out), "--data", str(dataset), "--synthetic-share", "0", *words) == 0
    assert "Do not use these weights for trainings on the same patients" in capsys.readouterr().out
    assert read_tensors(out / "nano_sam.pt", "Get it again.").keys() == build_nano_sam().state_dict().keys()
    assert run("evaluate", "--data", str(dataset), "--checkpoint", str(out / "nano_sam.pt"), "--cases", "1") == 0


def test_own_data_is_shown_in_the_prompted_frame(dataset: Path) -> None:
    source = LabeledSource([dataset], synthetic_share=0.0)
    assert len(source.slices) == 6
    rng = np.random.default_rng(0)
    for _ in range(10):
        image, masks, regions = source(rng, 64, 3, 0.0, 64)
        assert image.shape == masks.shape[1:] == regions.shape
        assert max(image.shape) <= 64
        assert masks.dtype == torch.bool
        assert masks.flatten(1).any(1).all()


def test_folder_without_labels_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dataset.json").write_text("{}")
    assert run("evaluate", "--data", str(tmp_path)) == 2
    assert "labelsTr" in capsys.readouterr().err


def test_importing_the_command_and_the_package_loads_no_torch() -> None:
    code = "import sys, nnunet_semisam.commands.sam, nnunet_semisam.sam; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def evaluate(dataset: Path, *more: str) -> int:
    return run("evaluate", "--data", str(dataset), "--device", "cpu", *more)


@pytest.mark.parametrize("damage", [lambda content: b"no image", lambda content: content[: len(content) // 2]])
def test_one_case_that_cannot_be_read_is_named_and_the_others_are_measured(
    dataset: Path, capsys: pytest.CaptureFixture[str], damage
) -> None:
    image = dataset / "imagesTr" / "case0_0000.nii.gz"
    image.write_bytes(damage(image.read_bytes()))
    assert evaluate(dataset) == 1, "the exit status says that something is missing"
    captured = capsys.readouterr()
    assert "1 cases, mean Dice" in captured.out
    assert "left out: case0" in captured.err


@pytest.mark.parametrize(
    ("change", "needle"),
    [
        (lambda content: content.pop("labels"), "labels must name the classes"),
        (lambda content: content.update(labels={"a": "b"}), "must be a number from 0"),
        (lambda content: content.update(labels={"": 1}), "it is empty"),
        (lambda content: content.pop("file_ending"), "file_ending must be an ending"),
        (lambda content: content.update(dataset={"../x": {"images": ["/x"], "label": "/x"}}), "another folder"),
        (lambda content: content.update(dataset={"x": 3}), "does not list its cases"),
    ],
)
def test_an_odd_dataset_json_is_named(dataset: Path, capsys: pytest.CaptureFixture[str], change, needle: str) -> None:
    content = json.loads((dataset / "dataset.json").read_text())
    change(content)
    (dataset / "dataset.json").write_text(json.dumps(content))
    assert evaluate(dataset) == 2
    error = capsys.readouterr().err
    assert "dataset.json" in error
    assert needle in error


@pytest.mark.parametrize(
    "option", [("--cases", "0"), ("--axis", "7"), ("--channel", "-1"), ("--seed", "-1"), ("--csv", "/no/such/x.csv")]
)
def test_options_that_make_no_sense_are_refused_before_the_first_case(
    dataset: Path, capsys: pytest.CaptureFixture[str], option: tuple[str, str]
) -> None:
    assert evaluate(dataset, *option) == 2
    assert option[0] in capsys.readouterr().err


def test_no_cell_of_the_csv_is_a_formula(dataset: Path, tmp_path: Path) -> None:
    content = json.loads((dataset / "dataset.json").read_text())
    content["labels"] = {"background": 0, "=1+1": 1, "disc": 2, "ignore": 3}
    (dataset / "dataset.json").write_text(json.dumps(content))
    assert evaluate(dataset, "--cases", "1", "--csv", str(tmp_path / "x.csv")) == 0
    assert ",=1+1" not in (tmp_path / "x.csv").read_text()


SHORT = ("--images", "1", "--prompts", "1", "--workers", "0", "--device", "cpu")


@pytest.mark.parametrize(
    "option",
    [("--learning-rate", "nan"), ("--learning-rate", "inf"), ("--workers", "-1"), ("--seed", "-5"), ("--steps", "0")],
)
def test_pretrain_refuses_settings_that_make_no_sense(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: tuple[str, str]
) -> None:
    assert run("pretrain", "--out", str(tmp_path / "out"), *SHORT, *option) == 2
    assert option[0].strip("-").replace("-", " ") in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"PK\3\4", {"a": 1}, {"step": "x", "settings": None}], ids=str)
def test_a_damaged_checkpoint_of_pretraining_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: object
) -> None:
    path = tmp_path / "checkpoint_pretrain.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    assert run("pretrain", "--out", str(tmp_path), "--steps", "1", *SHORT) == 2
    assert "Delete it to begin again" in capsys.readouterr().err


def test_a_pretraining_that_diverges_stops_and_exports_no_nan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("pretrain", "--out", str(tmp_path), "--steps", "9", "--learning-rate", "1e30", *SHORT) == 2
    assert "diverged" in capsys.readouterr().err
    assert not (tmp_path / "nano_sam.pt").exists()


def test_pretraining_and_a_file_in_the_place_of_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert run("pretrain", "--out", str(tmp_path / "file"), *SHORT) == 2
    assert "is no folder" in capsys.readouterr().err


def test_one_pretraining_at_a_time_in_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with folder_lock(tmp_path, wait=False):
        assert run("pretrain", "--out", str(tmp_path), "--steps", "1", *SHORT) == 2
    assert "Another process trains in" in capsys.readouterr().err


def test_a_full_disk_stops_pretraining_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("pretrain", "--out", str(tmp_path), "--steps", "2", "--validate-every", "99", *SHORT)
    monkeypatch.setattr(pretrain, "validation_dice", lambda *args: {})
    with monkeypatch.context() as full:

        def refuse(*args: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        full.setattr(pretrain, "save_atomically", refuse)
        assert run(*command) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert run(*command) == 0


def test_a_model_that_sees_volumes_is_not_measured_on_slices(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "nnunet_semisam.sam.adapters.build.build_adapted", lambda *args: SimpleNamespace(spatial_dims=3)
    )
    assert run("evaluate", "--data", str(dataset), "--model", "sam_med3d", "--device", "cpu") == 2
    assert "sam_med3d sees volumes" in capsys.readouterr().err


def test_evaluate_says_so_where_nothing_can_be_judged(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (dataset / "labelsTr").iterdir():
        image = sitk.ReadImage(str(path))
        scribble = np.full((3, 40, 48), 3, np.uint8)
        scribble[:, 18, 18:24] = 1
        written = sitk.GetImageFromArray(scribble)
        written.CopyInformation(image)
        sitk.WriteImage(written, str(path))
    assert evaluate(dataset) == 2
    assert "no slice shows a class that is annotated to its edge: case0, case1" in capsys.readouterr().err


def test_a_case_without_a_class_is_named_and_is_no_failure(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = dataset / "labelsTr" / "case1.nii.gz"
    sitk.WriteImage(sitk.ReadImage(str(path)) * 0, str(path))
    assert evaluate(dataset) == 0
    told = capsys.readouterr()
    assert "1 cases, mean Dice" in told.out
    assert "annotated to its edge: case1" in told.err


def test_cases_that_an_adapter_learned_from_are_left_out_of_the_current_folder_too(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = SimpleNamespace(dataset=dataset.name, cases=("case0",))
    adapter = SimpleNamespace(record=record)
    monkeypatch.setattr("nnunet_semisam.sam.adapters.adapter_file.read_adapter", lambda path: adapter)
    build = lambda model, options, adapter: build_backend(model, options)  # noqa: E731
    monkeypatch.setattr("nnunet_semisam.sam.adapters.build.build_adapted", build)
    monkeypatch.chdir(dataset)
    assert evaluate(Path(), "--adapter", "a.safetensors") == 0
    told = capsys.readouterr().out
    assert f"learned from them ({dataset.name}): case0" in told
    assert "1 cases, mean Dice" in told
