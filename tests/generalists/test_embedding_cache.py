"""Embeddings on disk: bounded, shared, and the same bits at every use."""

import logging
import os
import time

import pytest
import torch

from nnunet_semisam.generalists.embedding_cache import FULL_SECONDS, EmbeddingCache, EmbeddingFolder
from nnunet_semisam.sam.base import Embedding


def embedding(seed: int = 0) -> Embedding:
    generator = torch.Generator().manual_seed(seed)
    features = {"low": torch.randn(3, 8, 16, 16, generator=generator), "high": torch.randn(3, 2, generator=generator)}
    return Embedding(features, (40, 60))


def folder_in(root, limit_gb=1.0, data="plans_2d", fingerprint="abc", view="slices0", channel=0) -> EmbeddingFolder:
    return EmbeddingCache(root, data, limit_gb).of(fingerprint, view, channel)


@pytest.fixture
def cache(tmp_path) -> EmbeddingFolder:
    return folder_in(tmp_path)


def never() -> Embedding:
    raise AssertionError("must be cached")


def file_of(cache: EmbeddingFolder, case: str):
    return cache.folder / f"{case}.npz"


def test_first_and_later_uses_agree_bit_for_bit(cache):
    first = cache.get("a", "1", embedding)
    later = cache.get("a", "1", never)
    assert later.image_shape == first.image_shape == (40, 60)
    for name, value in first.features.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, later.features[name])
        assert torch.equal(value, embedding().features[name].half().float())
    assert (cache.hits, cache.misses) == (1, 1)


def test_another_image_model_configuration_view_or_channel_is_encoded_again(cache, tmp_path):
    cache.get("a", "1", embedding)
    cache.get("a", "2", embedding)
    assert cache.misses == 2
    for change in ({"fingerprint": "other"}, {"data": "plans_3d"}, {"view": "slices1"}, {"channel": 1}):
        other = folder_in(tmp_path, **change)
        other.get("a", "2", embedding)
        assert other.misses == 1


@pytest.mark.parametrize("damage", [b"", b"not a zip file", None])
def test_a_corrupt_file_is_encoded_again_with_a_warning(cache, caplog, damage):
    expected = cache.get("a", "1", embedding)
    content = bytearray(file_of(cache, "a").read_bytes())
    content[len(content) // 2] ^= 0xFF  # one flipped byte
    file_of(cache, "a").write_bytes(content if damage is None else damage)
    with caplog.at_level(logging.WARNING):
        again = cache.get("a", "1", embedding)
    assert "encoded again" in caplog.text
    assert torch.equal(again.features["low"], expected.features["low"])
    cache.get("a", "1", never)


def size_of_one(root) -> int:
    folder = folder_in(root / "measure")
    folder.get("a", "1", embedding)
    return file_of(folder, "a").stat().st_size


def test_a_full_cache_keeps_what_it_has_so_that_a_cyclic_scan_still_finds_it(tmp_path, caplog):
    limit = 8.9 * size_of_one(tmp_path) / 1e9  # room for 8 of 10 cases
    cache = folder_in(tmp_path / "cache", limit)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            before = cache.hits
            for case in range(10):
                cache.get(f"case_{case}", "1", embedding)
            total = sum(file.stat().st_size for file in (tmp_path / "cache").rglob("*") if file.is_file())
            assert total <= 1e9 * limit
    assert cache.hits - before == 8
    assert caplog.text.count("is full") == 1


def test_a_new_entry_takes_as_long_in_a_large_cache_as_in_a_small_one(cache, monkeypatch):
    looks = []
    files = cache.cache._files
    monkeypatch.setattr(cache.cache, "_files", lambda: looks.append(1) or files())
    for case in range(300):
        cache.get(f"case_{case}", "1", embedding)
    assert len(list(cache.folder.iterdir())) == 300
    assert len(looks) <= 3


def test_processes_that_fill_a_cache_together_stay_within_its_limit(tmp_path):
    one = size_of_one(tmp_path)
    limit = 60.5 * one / 1e9
    processes = [folder_in(tmp_path / "cache", limit, fingerprint=f"sam{i % 2}") for i in range(8)]
    for case in range(20):
        for i, process in enumerate(processes):
            process.get(f"case_{case}_{i}", "1", embedding)
    sizes = [file.stat().st_size for file in (tmp_path / "cache").rglob("*.npz")]
    assert sum(sizes) <= 1e9 * limit
    assert len(sizes) == 60


def test_of_two_that_see_the_last_place_at_once_one_gives_way(tmp_path, monkeypatch):
    limit = 1.9 * size_of_one(tmp_path) / 1e9
    first, second = (folder_in(tmp_path / "cache", limit, fingerprint=name) for name in ("first", "second"))
    make_room = second.cache.make_room
    monkeypatch.setattr(second.cache, "make_room", lambda size: (make_room(size), first.get("a", "1", embedding))[0])
    second.get("b", "1", embedding)
    assert file_of(first, "a").exists()
    assert not file_of(second, "b").exists()


def test_a_full_cache_is_looked_at_again_after_a_while(tmp_path, monkeypatch):
    cache = folder_in(tmp_path / "cache", 1.9 * size_of_one(tmp_path) / 1e9)
    for case in "ab":
        cache.get(case, "1", embedding)
    file_of(cache, "a").unlink()  # by another process
    cache.get("b", "1", embedding)
    assert not file_of(cache, "b").exists()
    later = time.monotonic() + FULL_SECONDS
    monkeypatch.setattr("time.monotonic", lambda: later)
    cache.get("b", "1", embedding)
    assert file_of(cache, "b").exists()


def test_entries_that_nobody_uses_make_room_the_least_recently_used_first(tmp_path):
    limit = 3.9 * size_of_one(tmp_path) / 1e9
    old = folder_in(tmp_path / "cache", limit, fingerprint="old")
    for i, case in enumerate("abc"):
        old.get(case, "1", embedding)
        os.utime(file_of(old, case), (1000 + i, 1000 + i))
    old.get("a", "1", never)  # now it is used: another training may be at it
    new = folder_in(tmp_path / "cache", limit, fingerprint="new")
    for case in "abcd":
        new.get(case, "1", embedding)
    assert [file_of(old, case).exists() for case in "abc"] == [True, False, False]
    assert [file_of(new, case).exists() for case in "abcd"] == [True, True, False, False]


def test_generalists_of_one_training_do_not_evict_each_other(tmp_path):
    cache = EmbeddingCache(tmp_path / "cache", "plans_2d", 1.9 * size_of_one(tmp_path) / 1e9)
    first, second = cache.of("one", "slices0", 0), cache.of("two", "slices0", 0)
    first.get("a", "1", embedding)
    os.utime(file_of(first, "a"), (1000, 1000))
    second.get("a", "1", embedding)
    assert (file_of(first, "a").exists(), file_of(second, "a").exists()) == (True, False)


def test_an_entry_of_other_images_gives_its_place_to_the_new_one(tmp_path):
    cache = folder_in(tmp_path / "cache", 1.9 * size_of_one(tmp_path) / 1e9)
    cache.get("a", "1", embedding)
    cache.get("a", "2", embedding)
    cache.get("a", "2", never)


def test_without_space_nothing_is_kept_and_the_bits_are_the_same(cache, tmp_path):
    expected = cache.get("a", "1", embedding)
    none = folder_in(tmp_path / "none", 0.0)
    assert torch.equal(none.get("a", "1", embedding).features["low"], expected.features["low"])
    assert not (tmp_path / "none").exists()


def test_a_kill_while_writing_leaves_no_file(cache, monkeypatch):
    def dies(stream, **arrays) -> None:
        stream.write(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("numpy.savez", dies)
        with pytest.raises(KeyboardInterrupt):
            cache.get("a", "1", embedding)
    assert list(cache.folder.iterdir()) == []
    cache.get("a", "1", embedding)
    assert cache.misses == 2


def test_values_beyond_half_precision_are_clipped_and_nan_is_refused(cache):
    large = Embedding({"low": torch.tensor([[1e6, -1e6]])}, (4, 4))
    assert cache.get("a", "1", lambda: large).features["low"].tolist() == [[65504.0, -65504.0]]
    with pytest.raises(ValueError, match="case 'b' holds NaN"):
        cache.get("b", "1", lambda: Embedding({"low": torch.tensor([[float("nan")]])}, (4, 4)))


def test_leftovers_of_killed_processes_are_removed_and_those_of_living_ones_are_not(cache):
    cache.folder.mkdir(parents=True)
    old, new = cache.folder / ".a.npz.1-00000000.tmp", cache.folder / ".a.npz.2-00000000.tmp"
    for file in (old, new):
        file.write_bytes(b"half")
    os.utime(old, (1000, 1000))
    cache.get("a", "1", embedding)
    assert (old.exists(), new.exists()) == (False, True)
