import pytest
import torch

from nnunet_semisam.training.checkpoint import ENTRY, read_entry, remove_leftovers, save_atomically

CPU = torch.device("cpu")


class Unpicklable:
    def __reduce__(self):
        raise RuntimeError("the disk is full")


def test_entry_is_read_back(tmp_path):
    path = tmp_path / "checkpoint_latest.pth"
    save_atomically({"network_weights": {}, ENTRY: {"round": 3, "weights": torch.arange(4.0)}}, path)
    entry = read_entry(path, CPU)
    assert entry["round"] == 3
    assert entry["weights"].tolist() == [0, 1, 2, 3]
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_checkpoint_of_a_stock_trainer_has_no_entry(tmp_path):
    save_atomically({"network_weights": {}}, tmp_path / "checkpoint_final.pth")
    assert read_entry(tmp_path / "checkpoint_final.pth", CPU) is None


def test_failed_write_keeps_the_old_file_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "checkpoint_latest.pth"
    save_atomically({ENTRY: 1}, path)
    with pytest.raises(RuntimeError, match="the disk is full"):
        save_atomically({ENTRY: 2, "x": Unpicklable()}, path)
    assert read_entry(path, CPU) == 1
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_file_appears_only_when_it_is_complete(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint_best.pth"
    seen = []

    def replace(source, target):
        seen.append((path.exists(), torch.load(source, weights_only=True)))

    monkeypatch.setattr("nnunet_semisam.training.checkpoint.os.replace", replace)
    save_atomically({ENTRY: 5}, path)
    assert seen == [(False, {ENTRY: 5})]


def test_leftovers_of_killed_writes_are_removed_and_nothing_else(tmp_path):
    names = ("checkpoint_latest.pth", "plans.json", ".checkpoint_latest.pth.17.tmp", ".checkpoint_best.pth.18.tmp")
    for name in names:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["checkpoint_latest.pth", "plans.json"]


def test_tensors_stay_shared_so_that_a_teacher_is_stored_once(tmp_path):
    weights = {"w": torch.zeros(100_000)}
    save_atomically({"network_weights": weights, ENTRY: {"method": {"teacher": weights}}}, tmp_path / "both.pth")
    save_atomically({"network_weights": weights}, tmp_path / "one.pth")
    assert (tmp_path / "both.pth").stat().st_size < 1.1 * (tmp_path / "one.pth").stat().st_size
