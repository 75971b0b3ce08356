from __future__ import annotations

import dataclasses
import pickle
import stat
from pathlib import Path

import pytest
import torch
from segment_anything.modeling import Sam

from nnunet_semisam.errors import UserError
from nnunet_semisam.io.tensor_files import read_tensors
from nnunet_semisam.sam import BackendOptions, build_backend
from nnunet_semisam.sam.checkpoints import (
    PACKAGED_WEIGHTS,
    digest,
    find_weights,
    load_weights,
    save_atomically,
)
from nnunet_semisam.sam.families import FAMILIES
from nnunet_semisam.sam.nano.model import build_nano_sam

CPU = torch.device("cpu")


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def test_code_in_a_pickle_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, write in (("new.pth", torch.save), ("old.pth", lambda o, p: p.write_bytes(pickle.dumps(o)))):
        write({"weight": Evil()}, tmp_path / name)
        with pytest.raises(UserError, match="no file of plain weights"):
            read_tensors(tmp_path / name, "Get it again.")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_truncated_file_says_so(tmp_path: Path, share: float, nano_sam: Sam) -> None:
    path = tmp_path / "nano_sam.pt"
    torch.save(nano_sam.state_dict(), path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match=r"nano_sam.pt.*truncated|nano_sam.pt.*plain weights"):
        read_tensors(path, "Get it again.")


def test_a_file_that_is_no_state_dict_says_what_it_holds(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(UserError, match="holds a list; a dict"):
        read_tensors(tmp_path / "list.pt", "Get it again.")


def test_weights_of_another_model_name_the_first_differences(tmp_path: Path, nano_sam: Sam, tiny_sam: Sam) -> None:
    path = tmp_path / "tiny.pt"
    torch.save(tiny_sam.state_dict(), path)
    with pytest.raises(UserError, match=r"'nano': image_encoder.stem.0.weight is missing; .* and \d+ more"):
        load_weights(nano_sam, path, "nano")


def test_other_shapes_are_named(tmp_path: Path, nano_sam: Sam) -> None:
    state = dict(nano_sam.state_dict())
    state["mask_decoder.iou_token.weight"] = torch.zeros(1, 7)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"iou_token.weight is \(1, 7\) instead of \(1, 32\)"):
        load_weights(nano_sam, tmp_path / "w.pt", "nano")


def test_missing_files_say_where_was_looked_and_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("nnUNet_sam", raising=False)
    with pytest.raises(UserError, match=r"nnUNet_sam.*sam download vit_b"):
        build_backend("vit_b", BackendOptions(CPU))
    with pytest.raises(UserError, match=r"vit_b: {checkpoint: ...} names .*gone.pth, which is no file"):
        build_backend("vit_b", BackendOptions(CPU, checkpoint=str(tmp_path / "gone.pth")))
    monkeypatch.setenv("nnUNet_sam", str(tmp_path))
    with pytest.raises(UserError, match=r"at .*sam_vit_l_0b3195.pth"):
        find_weights("vit_l", None, fetch=False)


def test_weights_in_the_folder_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_sam", str(tmp_path))
    with (tmp_path / "sam_vit_b_01ec64.pth").open("wb") as file:
        file.truncate(FAMILIES["vit_b"].size)
    assert find_weights("vit_b", None) == tmp_path / "sam_vit_b_01ec64.pth"


def test_digest_sees_every_value_and_name() -> None:
    state = {"a": torch.zeros(3), "b": torch.tensor(1.0)}
    assert digest(state) == digest({"b": torch.tensor(1.0), "a": torch.zeros(3)})
    assert digest(state) != digest({"a": torch.tensor([0.0, 0.0, 1e-30]), "b": torch.tensor(1.0)})
    assert digest(state) != digest({"a": torch.zeros(3), "c": torch.tensor(1.0)})


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    save_atomically({"a": 1}, path)
    with pytest.raises(Exception, match="pickle"):
        save_atomically({"a": lambda: None}, path)
    assert read_tensors(path, "Get it again.") == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["w.pt"]
    assert stat.S_IMODE(path.stat().st_mode) & stat.S_IRUSR


def test_packaged_nano_is_small_loads_and_encodes() -> None:
    assert PACKAGED_WEIGHTS.stat().st_size <= 12e6
    assert sum(p.numel() for p in build_nano_sam().parameters()) <= 6e6
    state = read_tensors(PACKAGED_WEIGHTS, "Get it again.")
    assert {v.dtype for v in state.values()} == {torch.float16}
    backend = build_backend("nano", BackendOptions(CPU))
    assert torch.isfinite(backend.encode(torch.randn(1, 1, 30, 40)).features["image_embedding"]).all()
    assert len(backend.fingerprint) == 64


def test_a_row_that_says_not_where_its_weights_are_gets_none_of_another_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = dataclasses.replace(FAMILIES["nano"], name="mine", file="mine.pt")
    monkeypatch.setitem(FAMILIES, "mine", row)
    monkeypatch.setenv("nnUNet_sam", str(tmp_path))
    with pytest.raises(UserError, match=r"No weights for the SAM model 'mine' at .*mine\.pt"):
        find_weights("mine", None)
