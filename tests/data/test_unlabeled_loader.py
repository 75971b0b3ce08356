import pickle
from pathlib import Path
from types import SimpleNamespace

import blosc2
import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_semisam.data.augmenters import finish, start_augmenter
from nnunet_semisam.data.unlabeled_dataset import UnlabeledDataset
from nnunet_semisam.data.unlabeled_loader import UnlabeledLoader
from nnunet_semisam.data.views import UnlabeledViews
from nnunet_semisam.errors import UserError
from nnunet_semisam.pseudo_labels.rounds import RoundReader
from nnunet_semisam.pseudo_labels.store import PseudoLabelStore

SHAPE = (6, 40, 36)
CASES = ["a", "b", "c"]
PATCH = {2: (24, 20), 3: (4, 16, 16)}
INITIAL = {2: (30, 26), 3: (6, 22, 22)}
# an ignore label: nnU-Net's own loader would look for annotated voxels
LABELS = SimpleNamespace(all_labels=[0, 1], has_ignore_label=True)


def coordinates(case: int) -> np.ndarray:
    """An image whose two channels tell the case, and the place in it; nowhere 0."""
    place = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE) + 1
    return np.stack([np.full(SHAPE, case + 1, np.float32), place])


@pytest.fixture
def dataset(tmp_path) -> UnlabeledDataset:
    np.random.seed(0)
    torch.manual_seed(0)
    files = {}
    for number, case in enumerate(CASES):
        files[case] = tmp_path / f"{case}.b2nd"
        blosc2.asarray(coordinates(number), urlpath=str(files[case]))
    return UnlabeledDataset(files)


def make_loader(dataset, dims: int = 2, batch: int = 4, **options) -> UnlabeledLoader:
    transforms = nnUNetTrainer.get_training_transforms(PATCH[dims], (0.0, 0.0), None, (), False)
    views = UnlabeledViews(transforms, 1.0, options.pop("masked", ()), strong_views=options.pop("strong_views", 1))
    views.intensity = []
    views.spatial[0].p_rotation = views.spatial[0].p_scaling = 0.0  # only the crop is left: voxels keep their values
    return UnlabeledLoader(dataset, batch, INITIAL[dims], PATCH[dims], LABELS, views, **options)


@pytest.mark.parametrize("dims", [2, 3])
def test_batches_hold_views_and_names_and_no_target(dataset, dims):
    batch = next(make_loader(dataset, dims))
    assert set(batch) == {"weak", "strong", "keys"}
    for view in ("weak", "strong"):
        assert batch[view].shape == (4, 2, *PATCH[dims])
        assert batch[view].dtype == torch.float32
    assert len(batch["keys"]) == 4
    assert set(batch["keys"]) <= set(CASES)


@pytest.mark.parametrize("dims", [2, 3])
def test_second_strong_view_is_in_the_batch_of_methods_that_want_it(dataset, dims):
    batch = next(make_loader(dataset, dims, strong_views=2))
    assert set(batch) == {"weak", "strong", "strong2", "keys"}
    assert torch.equal(batch["strong2"], batch["weak"])  # no intensities in these tests


def test_patches_are_of_the_cases_that_the_batch_names(dataset):
    loader = make_loader(dataset, batch=6)
    for _ in range(5):
        batch = next(loader)
        for key, patch in zip(batch["keys"], batch["weak"], strict=True):
            assert set(patch[0].unique().tolist()) <= {0.0, CASES.index(key) + 1.0}  # 0: padding


@pytest.mark.parametrize("dims", [2, 3])
def test_patches_are_cut_from_all_over_the_image(dataset, dims):
    loader, seen = make_loader(dataset, dims, batch=8), set()
    np.random.seed(0)
    for _ in range(60):
        batch = next(loader)
        for patch in batch["weak"]:
            inside = patch[1][patch[0] > 0]
            z, y, x = np.unravel_index(inside.long().numpy() - 1, SHAPE)
            seen |= set(zip(z // 2, y // 10, x // 9, strict=True))
            if dims == 2:
                assert len(set(z)) == 1
    assert len(seen) == 3 * 4 * 4


def test_whole_pool_is_visited(dataset):
    loader = make_loader(dataset, batch=10)
    assert {key for _ in range(5) for key in next(loader)["keys"]} == set(CASES)


def test_pool_smaller_than_a_batch_is_enough(dataset):
    one = UnlabeledDataset({"a": dataset.files["a"]})
    assert next(make_loader(one, batch=5))["keys"] == ["a"] * 5


def test_masked_channels_stay_zero_outside_the_mask(tmp_path):
    image = coordinates(0)
    image[:, :, :20] = 0.0  # outside the mask of the case
    blosc2.asarray(image, urlpath=str(tmp_path / "a.b2nd"))
    loader = make_loader(UnlabeledDataset({"a": tmp_path / "a.b2nd"}), batch=20, masked=[0])
    loader.views.intensity = [lambda image: {"image": image + 100}]
    batch = next(loader)
    outside = batch["weak"][:, 0] == 0
    assert outside.any()
    assert batch["strong"][:, 0][outside].eq(0).all()
    assert batch["strong"][:, 0][~outside].ge(100).all()
    assert batch["strong"][:, 1].ge(100).all()


# ------------------------------------------------------------------------------------------------- files that go bad


def rot(path: Path) -> None:
    """Overwrite what is between the header and the trailer of a file, as a dying disk does."""
    content = bytearray(path.read_bytes())
    content[300:-300] = b"\xa5" * (len(content) - 600)
    path.write_bytes(content)


def fill_with_nan(path: Path) -> None:
    path.unlink()
    blosc2.asarray(np.full((2, *SHAPE), np.nan, np.float32), urlpath=str(path))


@pytest.mark.parametrize("damage", [rot, fill_with_nan, Path.unlink, lambda path: path.write_bytes(b"")])
def test_damaged_case_leaves_the_pool_and_the_batch_stays_whole(dataset, damage):
    loader = make_loader(dataset, batch=12)
    damage(dataset.files["b"])
    batch = next(loader)
    assert set(batch["lost"]) == {"b"}
    assert str(dataset.files["b"]) in batch["lost"]["b"]
    for _ in range(4):
        assert set(batch["keys"]) == {"a", "c"}
        assert len(batch["weak"]) == len(batch["keys"]) == 12
        for key, patch in zip(batch["keys"], batch["weak"], strict=True):
            assert set(patch[0].unique().tolist()) <= {0.0, CASES.index(key) + 1.0}
        batch = next(loader)
        assert "lost" not in batch


@pytest.mark.parametrize("workers", [0, 2])
def test_training_goes_on_without_a_damaged_case_and_says_so_once(dataset, workers):
    rot(dataset.files["a"])
    told = []
    batches = start_augmenter(make_loader(dataset, batch=8), workers, pin_memory=False, log=told.append)
    try:
        for _ in range(20):
            assert "a" not in next(batches)["keys"]
    finally:
        finish(batches)
    (line,) = told
    assert f"{dataset.files['a']} is damaged inside" in line
    assert "1 of 3 unlabeled cases" in line


@pytest.mark.parametrize("workers", [0, 2])
def test_pool_of_damaged_files_ends_the_training_with_an_error(dataset, workers, capfd):
    for path in dataset.files.values():
        rot(path)
    with pytest.raises(UserError, match=r"2 of 3 unlabeled cases cannot be read any more, so the training stops"):
        start_augmenter(make_loader(dataset, batch=8), workers, pin_memory=False, log=lambda text: None)
    assert "Traceback" not in capfd.readouterr().err


class DrawingLoader(UnlabeledLoader):
    """Says in each batch which worker made it, and what torch would draw next."""

    def generate_train_batch(self) -> dict:
        return super().generate_train_batch() | {"worker": self.thread_id, "drawn": torch.rand(1).item()}


def test_workers_draw_other_transforms_than_one_another(dataset):
    plain = make_loader(dataset)
    loader = DrawingLoader(dataset, 4, INITIAL[2], PATCH[2], LABELS, plain.views)
    augmenter = start_augmenter(loader, 2, pin_memory=False)
    drawn: dict[int, list[float]] = {0: [], 1: []}
    try:
        while min(map(len, drawn.values())) < 4:
            batch = next(augmenter)
            drawn[batch["worker"]].append(batch["drawn"])
    finally:
        finish(augmenter)
    assert not set(drawn[0]) & set(drawn[1])


def test_undamaged_pool_is_drawn_as_nnunet_draws(dataset):
    loader = make_loader(dataset, batch=6)
    np.random.seed(3)
    expected = np.random.choice(CASES, 6, replace=True, p=None)
    np.random.seed(3)
    assert next(loader)["keys"] == list(expected)


# ------------------------------------------------------------------------------------------------------ pseudo-labels


@pytest.fixture
def reader(tmp_path) -> RoundReader:
    """Two rounds: in the first only case a has a label, in the second a and b; case c never."""
    store = PseudoLabelStore(tmp_path / "store", PATCH[2])
    place = coordinates(0)[1]
    for number, cases in enumerate((["a"], ["a", "b"])):
        store.begin(number)
        for case in cases:
            label = (place.astype(int) % 2) + number  # 0 and 1, then 1 and 2
            store.write(number, case, label, np.full(SHAPE, 0.4 + 0.2 * number))
        store.commit(number, {})
    return RoundReader(store.root, list(PATCH[2]))


@pytest.mark.parametrize("dims", [2, 3])
def test_pseudo_labels_are_cut_with_the_image(dataset, reader, dims):
    reader.point_to(1)
    batch = next(make_loader(dataset, dims, batch=12, source=reader))
    assert batch["pseudo_label"].shape == batch["pseudo_confidence"].shape == (12, 1, *PATCH[dims])
    assert batch["pseudo_label"].dtype == torch.int16
    for j, key in enumerate(batch["keys"]):
        image, label, confidence = (batch[name][j] for name in ("weak", "pseudo_label", "pseudo_confidence"))
        inside = image[:1] > 0
        if key == "c":
            assert label.eq(-1).all()
            assert confidence.eq(0).all()
            continue
        assert torch.equal(label[inside], (image[1:][inside] % 2 + 1).to(torch.int16))
        assert label[~inside].eq(-1).all()
        torch.testing.assert_close(confidence, 0.6 * inside.float(), atol=1e-5, rtol=0)


def test_before_the_first_round_there_is_no_label(dataset, reader):
    batch = next(make_loader(dataset, source=reader))
    assert batch["pseudo_label"].eq(-1).all()
    assert batch["pseudo_confidence"].eq(0).all()


def test_new_round_is_seen_from_the_next_batch_on(dataset, reader):
    loader = make_loader(dataset, batch=20, source=reader)
    reader.point_to(0)
    assert set(next(loader)["pseudo_label"].unique().tolist()) == {-1, 0, 1}
    reader.point_to(1)
    assert set(next(loader)["pseudo_label"].unique().tolist()) == {-1, 1, 2}
    reader.point_to(None)
    assert set(next(loader)["pseudo_label"].unique().tolist()) == {-1}


@pytest.mark.parametrize("kept", [1, 500])
def test_patches_are_centred_on_pseudo_foreground(dataset, tmp_path, monkeypatch, kept):
    """One voxel of foreground: without oversampling it would be in few patches."""
    monkeypatch.setattr("nnunet_semisam.data.unlabeled_loader.MOST_LOCATIONS", kept)
    store = PseudoLabelStore(tmp_path / "point", PATCH[2])
    label = np.zeros(SHAPE, int)
    label[4, 20, 18] = 1
    store.begin(0)
    for case in CASES:
        store.write(0, case, label, np.ones(SHAPE))
    store.commit(0, {})
    reader = RoundReader(store.root, list(PATCH[2]))
    reader.point_to(0)
    loader = make_loader(dataset, batch=9, source=reader, oversample_pseudo_foreground=0.33)
    for _ in range(5):
        batch = next(loader)
    assert 0 < len(loader._locations) <= kept
    found = (batch["pseudo_label"] == 1).flatten(1).any(1)
    assert found[-3:].all()  # nnU-Net oversamples the last third of a batch
    centre = (batch["pseudo_label"][-1, 0] == 1).nonzero()[0].tolist()
    assert [abs(c - p / 2) <= 1 for c, p in zip(centre, PATCH[2], strict=True)] == [True, True]


def test_case_without_confident_foreground_is_cropped_at_random(dataset, tmp_path):
    store = PseudoLabelStore(tmp_path / "empty", PATCH[2])
    store.begin(0)
    store.write(0, "a", np.zeros(SHAPE, int), np.ones(SHAPE))
    store.write(0, "b", np.ones(SHAPE, int), np.zeros(SHAPE), min_confidence=0.5)
    store.commit(0, {})
    reader = RoundReader(store.root, list(PATCH[2]))
    reader.point_to(0)
    loader = make_loader(dataset, batch=12, source=reader, oversample_pseudo_foreground=1.0)
    assert len(next(loader)["keys"]) == 12


# ------------------------------------------------------------------------------------------------------------- workers


def test_loader_travels_to_other_processes(dataset):
    loader = pickle.loads(pickle.dumps(make_loader(dataset)))
    assert next(loader)["weak"].shape == (4, 2, *PATCH[2])


def test_running_worker_reads_the_new_round(dataset, reader):
    augmenter = start_augmenter(make_loader(dataset, source=reader, batch=8), 1, pin_memory=False)
    try:
        for number, labels in ((0, {0, 1}), (1, {1, 2})):
            reader.point_to(number)
            for _ in range(30):  # some batches were made before
                seen = set(next(augmenter)["pseudo_label"].unique().tolist()) - {-1}
                if seen == labels:
                    break
            assert seen == labels
    finally:
        finish(augmenter)


def load_one(loader: UnlabeledLoader, file: str) -> None:
    torch.save(next(loader)["weak"], file)


def test_loader_works_in_a_spawned_process(dataset, tmp_path):
    """As on macOS and Windows."""
    file = Path(tmp_path) / "batch.pth"
    process = torch.multiprocessing.get_context("spawn").Process(
        target=load_one, args=(make_loader(dataset), str(file))
    )
    process.start()
    process.join(timeout=180)
    assert process.exitcode == 0
    assert torch.load(file, weights_only=True).shape == (4, 2, *PATCH[2])
