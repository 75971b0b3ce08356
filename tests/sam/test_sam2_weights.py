"""Weights of SAM 2: Meta's files, folders of transformers, and the rows that name them."""

from __future__ import annotations

import builtins
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_sam2 import SIDE, build_tiny_sam2, meta_state

from nnunet_semisam.errors import UserError
from nnunet_semisam.sam import BackendOptions, build_backend, named
from nnunet_semisam.sam.base import VideoSAM
from nnunet_semisam.sam.detect import detect, matching
from nnunet_semisam.sam.families import FAMILIES
from nnunet_semisam.sam.family import Family
from nnunet_semisam.sam.sam2_weights import load
from nnunet_semisam.settings import Settings

CPU = torch.device("cpu")
ROWS = [row for row in FAMILIES.values() if row.folders]
NAMES = {row.name for row in ROWS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sam2")
    build_tiny_sam2().save_pretrained(path)
    return path


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copied"))


def tiny_row() -> Family:
    row = FAMILIES["sam2.1_tiny"]
    return replace(row, network="tiny_sam2:build_tiny_sam2", preprocessing=replace(row.preprocessing, side=SIDE))


def test_a_folder_and_metas_file_of_the_same_weights_are_the_same_model(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "tiny.pt"
    torch.save({"model": meta_state(build_tiny_sam2())}, file)
    of_file = load(tiny_row(), BackendOptions(CPU, str(file)))
    of_folder = build_backend("sam2.1_tiny", BackendOptions(CPU, str(folder)))
    assert isinstance(of_file, VideoSAM)
    assert isinstance(of_folder, VideoSAM)
    assert of_folder.preprocessing.side == SIDE
    expected = of_file.module.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in of_folder.module.state_dict().items())


def test_a_folder_without_a_memory_sees_single_images(folder: Path, tmp_path: Path) -> None:
    from transformers import Sam2Config, Sam2Model

    video = build_tiny_sam2()
    config = Sam2Config(
        vision_config=video.config.vision_config,
        prompt_encoder_config=video.config.prompt_encoder_config.to_dict() | {"model_type": "sam2_prompt_encoder"},
        mask_decoder_config=video.config.mask_decoder_config.to_dict() | {"model_type": "sam2_mask_decoder"},
    )
    images = Sam2Model(config)
    images.load_state_dict({key: value for key, value in video.state_dict().items() if key in images.state_dict()})
    images.save_pretrained(tmp_path / "images")
    with_memory = build_backend("sam2.1_tiny", BackendOptions(CPU, str(folder)))
    without = build_backend("sam2.1_tiny", BackendOptions(CPU, str(tmp_path / "images")))
    assert not isinstance(without, VideoSAM)
    shown = torch.randn(2, 1, 30, 40)
    with torch.no_grad():
        for name, features in with_memory.encode(shown).features.items():
            torch.testing.assert_close(features, without.encode(shown).features[name])


def _json(change: dict) -> object:
    def damage(folder: Path) -> None:
        content = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(content | change))

    return damage


def _weights(change: object) -> object:
    def damage(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        state = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

    return damage


DAMAGE = {
    "no configuration": (lambda folder: (folder / "config.json").unlink(), "config.json"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
    "other files": (_json({"transformers_weights": "x.safetensors.index.json"}), "transformers_weights leads beyond"),
    "code": (_json({"vision_config": {"attn_implementation": "someone/kernel"}}), "attn_implementation leads beyond"),
    "an adapter": (lambda folder: (folder / "adapter_config.json").write_text("{}"), "would change the weights"),
    "no memory": (_json({"memory_attention_rope_feat_sizes": [12_000, 12_000]}), "the number 12000; no SAM 2"),
    "no json": (lambda folder: (folder / "config.json").write_text("{"), "config.json"),
    "another model": (_json({"model_type": "llama"}), "type 'llama'"),
    "no type": (_json({"model_type": ["sam2"]}), "describes a model of type"),
    "another encoder": (_json({"vision_config": {"backbone_config": {"model_type": "vit"}}}), "image encoder"),
    "wrong values": (_json({"num_maskmem": "seven"}), "describes no network"),
    "other sizes": (_json({"memory_attention_num_layers": 2}), r"layers.1.* is missing"),
    "cut off": (lambda folder: (folder / "model.safetensors").write_bytes(b"12345678{"), "cannot be loaded"),
    "missing": (_weights(lambda state: state.pop("no_memory_embedding")), "no_memory_embedding is missing"),
    "unknown": (_weights(lambda state: state.update(adapter=torch.zeros(2))), "adapter is unknown"),
    "shape": (
        _weights(lambda state: state.update(no_memory_embedding=torch.zeros(1, 1, 3))),
        "no_memory_embedding|cannot be loaded",
    ),
    "nan": (_weights(lambda state: state["no_memory_embedding"].fill_(torch.nan)), "not finite"),
}


@pytest.mark.parametrize("harm", DAMAGE)
def test_folders_that_cannot_be_used_say_why(copied: Path, harm: str) -> None:
    damage, message = DAMAGE[harm]
    damage(copied)
    with pytest.raises(UserError, match=message):
        build_backend("sam2.1_tiny", BackendOptions(CPU, str(copied)))


def test_without_the_library_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_module = builtins.__import__

    def without_transformers(name: str, *args: object, **kwargs: object) -> object:
        if name == "transformers":
            raise ImportError(name)
        return import_module(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_transformers)
    with pytest.raises(UserError, match=r'pip install "nnunet-semisam\[sam2\]"'):
        build_backend("sam2.1_tiny", BackendOptions(CPU, str(folder)))


def test_other_models_cannot_be_folders(folder: Path) -> None:
    with pytest.raises(UserError, match="which is no file"):
        build_backend("vit_b", BackendOptions(CPU, str(folder)))


def test_names_of_models_are_names_of_settings() -> None:
    import nnunet_semisam.pseudo_labels.settings  # noqa: F401  registers the block sam

    settings = Settings.of(**{"use_sam": True, "sam": {"models": ["sam2.1_tiny"]}, "sam2.1_tiny": {"axis": 1}})
    assert settings.block("sam2.1_tiny").axis == 1
    assert "sam2.1_tiny" in settings.used_blocks()
    assert {"sam2_tiny", "sam2.1_large", "medsam2"} < NAMES
    assert len(NAMES) == 9


def shapes_of_network(row: Family) -> dict[str, dict[str, tuple[int, ...]]]:
    """Return the shapes in a published file, without a value in memory."""
    with torch.device("meta"):
        model = named(row.network)()
    return {"model": {key: tuple(value.shape) for key, value in meta_state(model).items()}}


@pytest.fixture(scope="module")
def published() -> dict[str, dict[str, dict[str, tuple[int, ...]]]]:
    return {row.name: shapes_of_network(row) for row in ROWS}


def test_published_sizes_are_told_apart_by_their_keys(published) -> None:
    for name, shapes in published.items():
        same = {"sam2.1_tiny", "medsam2"}  # they differ in the side of their input, which no key shows
        assert set(matching(shapes)) == (same if name in same else {name})


def test_published_sizes_have_the_numbers_of_parameters_that_meta_states(published) -> None:
    millions = {"tiny": 38.9, "small": 46.0, "base_plus": 80.8, "large": 224.4}  # README of facebookresearch/sam2
    for name, shapes in published.items():
        count = sum(torch.Size(shape).numel() for shape in shapes["model"].values()) / 1e6
        size = name.partition("_")[2] or "tiny"
        assert count == pytest.approx(millions[size], abs=0.15), name


def test_published_files_have_the_sizes_of_their_weights(published) -> None:
    for row in ROWS:
        if row.size is not None:
            weights = sum(4 * torch.Size(shape).numel() for shape in published[row.name]["model"].values())
            assert weights < row.size < weights + 500_000, row.name


def test_a_folder_tells_its_model(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    with torch.device("meta"):
        state = named(FAMILIES["sam2_small"].network)().state_dict()
    needed = list(FAMILIES["sam2_small"].layouts[1].shapes)
    save_file({key: torch.zeros(state[key].shape) for key in needed}, tmp_path / "model.safetensors")
    assert detect(tmp_path).name == "sam2_small"
