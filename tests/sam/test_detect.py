"""The model that weights are of, from the names and shapes of their tensors."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nnunet_semisam.errors import UserError
from nnunet_semisam.generalists.build import check_generalists
from nnunet_semisam.io.tensor_shapes import read_shapes
from nnunet_semisam.pseudo_labels import settings as pseudo_label_settings  # noqa: F401  registers the block sam
from nnunet_semisam.sam import BackendOptions, build_backend
from nnunet_semisam.sam.checkpoints import PACKAGED_WEIGHTS, load_weights
from nnunet_semisam.sam.detect import detect, family_of, matching
from nnunet_semisam.sam.families import AUTO, FAMILIES
from nnunet_semisam.sam.family import Family, Layout
from nnunet_semisam.settings import Settings

CPU = torch.device("cpu")


def keys_of(name: str) -> dict:
    """A file with the keys and shapes that tell a model, each of one stored number."""
    layout = FAMILIES[name].layouts[0]
    tensors = {
        key: torch.zeros(1).expand([2 if size is None else size for size in shape])
        for key, shape in layout.shapes.items()
    }
    return {layout.inside: tensors, "epoch": 3} if layout.inside else tensors


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != AUTO])
def test_every_model_is_found_by_its_published_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / FAMILIES[name].file
    torch.save(keys_of(name), path)
    assert name in matching(read_shapes(path, ""))
    assert detect(path).name == name


@pytest.mark.parametrize("width", [768, 1024, 1280])
def test_the_width_of_the_encoder_tells_the_sizes_of_segment_anything(width: int, tmp_path: Path) -> None:
    name = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}[width]
    torch.save(keys_of(name), tmp_path / FAMILIES[name].file)
    assert detect(tmp_path / FAMILIES[name].file).layouts[0].shapes["image_encoder.pos_embed"] == (1, 64, 64, width)


def test_keys_of_no_model_are_refused_and_the_models_named(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "unet.pth")
    with pytest.raises(UserError, match=r"unet.pth has the keys of no SAM model.*nano"):
        detect(tmp_path / "unet.pth")


def test_a_low_rank_adapter_without_its_base_is_no_model(tmp_path: Path) -> None:
    torch.save({**keys_of("vit_b"), "w_a_000.weight": torch.zeros(1)}, tmp_path / "lora.pth")
    with pytest.raises(UserError, match="keys of no SAM model"):
        detect(tmp_path / "lora.pth")


def test_models_that_only_differ_in_their_images_must_be_named(tmp_path: Path, monkeypatch) -> None:
    twin = replace(FAMILIES["vit_b"], name="twin", file="twin.pth")
    monkeypatch.setitem(FAMILIES, "twin", twin)
    torch.save(keys_of("vit_b"), tmp_path / "mine.pth")
    with pytest.raises(UserError, match=r"mine.pth may be of vit_b.*twin.*sam: {models: \[vit_b\]}"):
        detect(tmp_path / "mine.pth")
    torch.save(keys_of("vit_b"), tmp_path / "twin.pth")
    assert detect(tmp_path / "twin.pth").name == "twin"


def test_auto_is_whatever_its_checkpoint_is_of(tmp_path: Path) -> None:
    path = tmp_path / "renamed.pt"
    path.write_bytes(PACKAGED_WEIGHTS.read_bytes())
    found, nano = (build_backend(name, BackendOptions(CPU, checkpoint=str(path))) for name in (AUTO, "nano"))
    assert found.fingerprint == nano.fingerprint
    settings = Settings.of(use_sam=True, sam={"models": [AUTO]}, auto={"checkpoint": str(path)})
    check_generalists(settings)


def test_auto_without_a_checkpoint_says_what_to_set() -> None:
    with pytest.raises(UserError, match=r"Set auto: {checkpoint: FILE}"):
        check_generalists(Settings.of(use_sam=True, sam={"models": [AUTO]}))
    with pytest.raises(UserError, match=r"Set auto: {checkpoint: FILE}"):
        build_backend(AUTO, BackendOptions(CPU))


def test_weights_of_another_model_name_the_model_that_was_found(tmp_path: Path) -> None:
    values = {key: value.clone() for key, value in keys_of("vit_l").items()}
    torch.save(values, tmp_path / "large.pth")
    with pytest.raises(UserError, match=r"not hold weights of the SAM model 'nano'.*Its keys are those of vit_l\."):
        load_weights(torch.nn.Linear(2, 2), tmp_path / "large.pth", "nano")


def test_prompts_that_the_found_model_does_not_understand_are_refused_early(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(FAMILIES, "vit_l", replace(FAMILIES["vit_l"], prompts=("box",), prompt="box"))
    torch.save(keys_of("vit_l"), tmp_path / "large.pth")
    auto = {"checkpoint": str(tmp_path / "large.pth")}
    check_generalists(Settings.of(use_sam=True, sam={"models": [AUTO]}, auto=auto))
    with pytest.raises(UserError, match="vit_l does not understand the prompts of the strategy 'points'"):
        check_generalists(Settings.of(use_sam=True, sam={"models": [AUTO]}, auto={**auto, "prompt": "points"}))


def write_safetensors(path: Path, header: object, length: int | None = None) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text)
    return path


def test_shapes_of_safetensors_are_read_from_the_header_alone(tmp_path: Path, monkeypatch) -> None:
    about = {"dtype": "F32", "shape": [2, 2**40], "data_offsets": [0, 2**43]}
    write_safetensors(tmp_path / "model.safetensors", {"__metadata__": {"format": "pt"}, "vision.weight": about})
    assert read_shapes(tmp_path / "model.safetensors", "") == {"": {"vision.weight": (2, 2**40)}}
    row = Family("twin", "", "", "twin", layouts=(Layout({"vision.weight": (2, None)}),))
    monkeypatch.setitem(FAMILIES, "twin", row)
    assert family_of(AUTO, str(tmp_path)) is row  # a folder of Hugging Face's transformers


@pytest.mark.parametrize(
    ("header", "length"),
    [
        ([1], None),
        ({"a": 3}, None),
        ({"a": {"shape": [-1]}}, None),
        ({"a": {"shape": "2"}}, None),
        ({}, 2**62),
        ({}, 0),
    ],
)
def test_safetensors_that_are_none_are_refused(header: object, length: int | None, tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "model.safetensors", header, length)
    with pytest.raises(UserError, match="no safetensors file"):
        detect(path)
