import builtins
import json
import os
import pickle
from pathlib import Path

import blosc2
import numpy as np
import pytest

from nnunet_semisam.data.unlabeled_dataset import UnlabeledDataset, cases_in, collect_pool, unlabeled_folder
from nnunet_semisam.errors import UserError

IDENTIFIER = "nnUNetPlans_2d"


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    blosc2.asarray(array.astype(np.float32), urlpath=str(path), mode="w")


@pytest.fixture
def dataset_folder(tmp_path) -> Path:
    """Labeled cases a, b, c with what nnU-Net writes beside them, all of it garbage, and unlabeled cases u, v."""
    for value, case in enumerate("abc"):
        write(tmp_path / IDENTIFIER / f"{case}.b2nd", np.full((1, 2, 3, 4), value))
        (tmp_path / IDENTIFIER / f"{case}_seg.b2nd").write_bytes(b"garbage")
        (tmp_path / IDENTIFIER / f"{case}.pkl").write_bytes(b"garbage")
    for value, case in enumerate("vu"):
        write(unlabeled_folder(tmp_path, IDENTIFIER) / f"{case}.b2nd", np.full((1, 2, 3, 4), 10 + value))
    return tmp_path


def pool(folder: Path, hidden: list[str], used: list[str]) -> UnlabeledDataset:
    return collect_pool(folder, IDENTIFIER, hidden, used)


def test_pool_is_the_union_of_unlabeled_images_and_hidden_cases(dataset_folder):
    found = pool(dataset_folder, ["c"], ["a", "b"])
    assert found.identifiers == ["c", "u", "v"]
    assert len(found) == 3
    assert [float(found.load_image(case).mean()) for case in found.identifiers] == [2.0, 11.0, 10.0]
    assert found.load_image("u").shape == (1, 2, 3, 4)


def test_pool_may_be_of_one_kind_only(dataset_folder):
    assert pool(dataset_folder, [], ["a"]).identifiers == ["u", "v"]
    for file in unlabeled_folder(dataset_folder, IDENTIFIER).iterdir():
        file.unlink()
    unlabeled_folder(dataset_folder, IDENTIFIER).rmdir()
    assert pool(dataset_folder, ["b", "c"], ["a"]).identifiers == ["b", "c"]


def test_nothing_but_images_is_ever_opened(dataset_folder, monkeypatch):
    opened = []
    blosc2_open, plain_open = blosc2.open, builtins.open

    def record_blosc2(*args, **kwargs):
        opened.append(Path(kwargs["urlpath"]).name)
        return blosc2_open(*args, **kwargs)

    def record_plain(file, *args, **kwargs):
        if str(dataset_folder) in str(file):
            opened.append(Path(file).name)
        return plain_open(file, *args, **kwargs)

    monkeypatch.setattr(blosc2, "open", record_blosc2)
    monkeypatch.setattr(builtins, "open", record_plain)
    found = pool(dataset_folder, ["b", "c"], ["a"])
    for case in found.identifiers:
        found.load_image(case)
    assert sorted(set(opened)) == ["b.b2nd", "c.b2nd", "u.b2nd", "v.b2nd"]


def test_files_that_are_being_written_and_labels_are_no_cases(dataset_folder):
    folder = unlabeled_folder(dataset_folder, IDENTIFIER)
    for name in (".w.b2nd.17.tmp.b2nd", "u_seg.b2nd", "preprocessing.json", "u.pkl"):
        (folder / name).write_bytes(b"torn")
    assert cases_in(folder) == ["u", "v"]
    assert pool(dataset_folder, [], ["a"]).identifiers == ["u", "v"]
    assert cases_in(dataset_folder / "nothing") == []


@pytest.mark.parametrize(("hidden", "used"), [(["u"], ["a"]), ([], ["a", "u"])])
def test_case_that_is_labeled_too_is_refused(dataset_folder, hidden, used):
    with pytest.raises(UserError, match=r"1 case\(s\) are both unlabeled .*and in the fold: u\. .*remove it"):
        pool(dataset_folder, hidden, used)


def test_hidden_case_that_is_not_preprocessed_is_refused(dataset_folder):
    with pytest.raises(UserError, match=r"not preprocessed in .*nnUNetPlans_2d: x, y\. Run 'nnUNetv2_preprocess"):
        pool(dataset_folder, ["x", "c", "y"], ["a"])


def test_data_of_an_old_nnunet_is_refused(dataset_folder):
    (dataset_folder / IDENTIFIER / "x.npz").touch()
    with pytest.raises(UserError, match=r"preprocessed by an old nnU-Net \(npz files\).*Run nnUNetv2_preprocess again"):
        pool(dataset_folder, ["x"], ["a"])


def test_empty_pool_is_refused_with_what_to_run(tmp_path):
    with pytest.raises(UserError, match=r"There are no unlabeled cases.*nnunet-semisam preprocess.*nnUNetTrainerSuper"):
        pool(tmp_path, [], ["a"])


def test_unreadable_image_is_named(dataset_folder):
    path = unlabeled_folder(dataset_folder, IDENTIFIER) / "u.b2nd"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match=rf"{path} cannot be read .*preprocess it again"):
        pool(dataset_folder, [], ["a"]).load_image("u")


def test_pool_travels_to_other_processes(dataset_folder):
    found = pickle.loads(pickle.dumps(pool(dataset_folder, ["c"], ["a"])))
    assert found.identifiers == ["c", "u", "v"]
    assert found.load_image("c").mean() == 2.0


def test_splits_and_plans_do_not_matter_here(dataset_folder):
    (dataset_folder / "splits_final.json").write_text(json.dumps("garbage"))
    assert pool(dataset_folder, [], []).identifiers == ["u", "v"]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def become_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def become_whole_numbers(path: Path) -> None:
    path.unlink()
    blosc2.asarray(np.ones((1, 2, 3, 4), np.int32), urlpath=str(path))


def gain_channels(path: Path) -> None:
    path.unlink()
    write(path, np.ones((3, 2, 3, 4)))


@pytest.mark.parametrize("damage", [truncate, become_a_pipe, become_whole_numbers, gain_channels])
@pytest.mark.parametrize("case", ["u", "c"])
def test_file_that_is_no_image_stops_before_the_first_step(dataset_folder, damage, case):
    folder = unlabeled_folder(dataset_folder, IDENTIFIER) if case == "u" else dataset_folder / IDENTIFIER
    damage(folder / f"{case}.b2nd")
    with pytest.raises(UserError, match=rf"{folder / case}\.b2nd.*preprocess it again"):
        pool(dataset_folder, ["c"], ["a"])


def test_all_unreadable_images_are_named(dataset_folder):
    for case in "uv":
        truncate(unlabeled_folder(dataset_folder, IDENTIFIER) / f"{case}.b2nd")
    with pytest.raises(UserError, match=r"u\.b2nd cannot be read.*v\.b2nd cannot be read"):
        pool(dataset_folder, [], ["a"])


def test_whole_image_with_nan_is_refused(dataset_folder):
    path = unlabeled_folder(dataset_folder, IDENTIFIER) / "u.b2nd"
    path.unlink()
    write(path, np.full((1, 2, 3, 4), np.nan))
    with pytest.raises(UserError, match=rf"{path} is damaged inside: .* NaN"):
        pool(dataset_folder, [], ["a"]).load_image("u")
