import pytest
import torch

from nnunet_semisam.errors import UserError
from nnunet_semisam.io.atomic import temporary_beside
from nnunet_semisam.training.checkpoint import (
    ENTRY,
    DamagedCheckpointError,
    read,
    remove_leftovers,
    rounds_in_use,
    save,
)

CPU = torch.device("cpu")
OURS = {"version": "1", "settings": {}, "log": [], "pseudo_labels": None}


class Unpicklable:
    def __reduce__(self):
        raise RuntimeError("the disk is full")


def test_entry_is_read_back(tmp_path):
    path = tmp_path / "checkpoint_latest.pth"
    save({"network_weights": {}}, {**OURS, "round": 3, "weights": torch.arange(4.0)}, path)
    entry = read(path, CPU)[ENTRY]
    assert entry["round"] == 3
    assert entry["weights"].tolist() == [0, 1, 2, 3]
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_nnunets_entries_stand_where_nnunet_looks_for_them(tmp_path):
    save({"network_weights": {"w": torch.ones(1)}, "current_epoch": 3}, {"round": 1}, tmp_path / "checkpoint_final.pth")
    found = torch.load(tmp_path / "checkpoint_final.pth", weights_only=True)
    assert found.keys() == {"network_weights", "current_epoch", ENTRY}
    assert found["current_epoch"] == 3


def test_checkpoint_of_a_stock_trainer_has_no_entry(tmp_path):
    torch.save({"network_weights": {}}, tmp_path / "checkpoint_final.pth")
    assert ENTRY not in read(tmp_path / "checkpoint_final.pth", CPU)


def test_failed_write_keeps_the_old_file_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "checkpoint_latest.pth"
    save({}, {**OURS, "round": 1}, path)
    with pytest.raises(UserError, match="the disk is full"):
        save({"x": Unpicklable()}, {"round": 2}, path)
    assert read(path, CPU)[ENTRY]["round"] == 1
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_file_appears_only_when_it_is_complete(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint_best.pth"
    seen = []

    def replace(source, target):
        seen.append((path.exists(), torch.load(source, weights_only=True)))

    monkeypatch.setattr("nnunet_semisam.io.atomic.os.replace", replace)
    save({}, {"round": 5}, path)
    assert seen == [(False, {ENTRY: {"round": 5}})]


def test_leftovers_of_killed_writes_are_removed_and_nothing_else(tmp_path):
    for name in ("checkpoint_latest.pth", "plans.json"):
        (tmp_path / name).touch()
    for name in ("checkpoint_latest.pth", "checkpoint_best.pth"):
        temporary_beside(tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["checkpoint_latest.pth", "plans.json"]


def test_tensors_stay_shared_so_that_a_teacher_is_stored_once(tmp_path):
    weights = {"w": torch.zeros(100_000)}
    save({"network_weights": weights}, {"method": {"teacher": weights}}, tmp_path / "both.pth")
    save({"network_weights": weights}, {}, tmp_path / "one.pth")
    assert (tmp_path / "both.pth").stat().st_size < 1.1 * (tmp_path / "one.pth").stat().st_size


def test_rounds_that_checkpoints_name_are_in_use(tmp_path):
    save({}, {**OURS, "pseudo_labels": {"round": 2}}, tmp_path / "checkpoint_latest.pth")
    save({}, {**OURS, "pseudo_labels": {"round": None}}, tmp_path / "checkpoint_best.pth")
    torch.save({"network_weights": {}}, tmp_path / "checkpoint_final.pth")
    assert rounds_in_use(tmp_path) == {2}
    save({}, {**OURS, "pseudo_labels": None}, tmp_path / "checkpoint_latest.pth")
    assert rounds_in_use(tmp_path) == set()


def torn(path):
    save({"network_weights": {"w": torch.zeros(1000)}}, OURS, path)
    path.write_bytes(path.read_bytes()[:2000])


@pytest.mark.parametrize(
    "damage",
    [
        torn,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("text"),
        lambda path: torch.save([1], path),
        lambda path: save({}, {"a": 1}, path),
        lambda path: save({}, {**OURS, "pseudo_labels": {"a": 1}}, path),
        lambda path: torch.save({ENTRY: [1]}, path),
    ],
)
def test_a_damaged_checkpoint_is_named_and_its_rounds_are_not_known(tmp_path, damage):
    save({}, {**OURS, "pseudo_labels": {"round": 2}}, tmp_path / "checkpoint_latest.pth")
    damage(tmp_path / "checkpoint_best.pth")
    with pytest.raises(DamagedCheckpointError, match=r"checkpoint_best.pth.*Remove it"):
        read(tmp_path / "checkpoint_best.pth", CPU)
    with pytest.raises(DamagedCheckpointError, match=r"checkpoint_best.pth"):
        rounds_in_use(tmp_path)


def test_a_full_disk_leaves_the_checkpoint_that_was_there(small_disk):
    path = small_disk / "checkpoint_latest.pth"
    save({"w": torch.zeros(100_000)}, OURS, path)
    with pytest.raises(UserError, match=r"checkpoint_latest.pth cannot be written.*--c"):
        save({"w": torch.ones(200_000)}, OURS, path)
    assert read(path, CPU)["w"].sum() == 0
    assert [file.name for file in small_disk.iterdir()] == [path.name]
