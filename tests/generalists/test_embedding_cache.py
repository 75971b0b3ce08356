"""Embeddings on disk: bounded, shared, and the same bits at every use."""

import logging
import os

import pytest
import torch

from nnunet_semisam.generalists.embedding_cache import EmbeddingCache
from nnunet_semisam.sam.base import Embedding


def embedding(seed: int = 0) -> Embedding:
    generator = torch.Generator().manual_seed(seed)
    features = {"low": torch.randn(3, 8, 16, 16, generator=generator), "high": torch.randn(3, 2, generator=generator)}
    return Embedding(features, (40, 60))


@pytest.fixture
def cache(tmp_path) -> EmbeddingCache:
    return EmbeddingCache(tmp_path, "plans_2d", "abc", 1.0)


def never() -> Embedding:
    raise AssertionError("must be cached")


def file_of(cache: EmbeddingCache, case: str):
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


def test_another_image_model_or_configuration_is_encoded_again(cache, tmp_path):
    cache.get("a", "1", embedding)
    cache.get("a", "2", embedding)
    assert cache.misses == 2
    for data_identifier, fingerprint in (("plans_2d", "other"), ("plans_3d", "abc")):
        other = EmbeddingCache(tmp_path, data_identifier, fingerprint, 1.0)
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


def test_the_least_recently_used_go_first(tmp_path):
    cache = EmbeddingCache(tmp_path, "plans_2d", "abc", 1.0)
    for i, case in enumerate("abc"):
        cache.get(case, "1", embedding)
        os.utime(file_of(cache, case), (1000 + i, 1000 + i))
    cache.get("a", "1", never)  # now b is the oldest
    size = file_of(cache, "a").stat().st_size
    small = EmbeddingCache(tmp_path, "plans_2d", "abc", 3.5 * size / 1e9)
    small.get("d", "1", embedding)
    assert sorted(file.stem for file in small.folder.iterdir()) == ["a", "c", "d"]


def test_the_limit_is_about_all_models_together(tmp_path):
    old = EmbeddingCache(tmp_path, "plans_2d", "old", 1.0)
    old.get("a", "1", embedding)
    size = file_of(old, "a").stat().st_size
    os.utime(file_of(old, "a"), (1000, 1000))
    new = EmbeddingCache(tmp_path, "plans_2d", "new", 1.5 * size / 1e9)
    new.get("a", "1", embedding)
    assert not file_of(old, "a").exists()
    assert file_of(new, "a").exists()


def test_without_space_nothing_is_kept_and_the_bits_are_the_same(cache, tmp_path):
    expected = cache.get("a", "1", embedding)
    none = EmbeddingCache(tmp_path / "none", "plans_2d", "abc", 0.0)
    assert torch.equal(none.get("a", "1", embedding).features["low"], expected.features["low"])
    assert not none.root.exists()


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
    old, new = cache.folder / "a.npz.1.partial", cache.folder / "a.npz.2.partial"
    for file in (old, new):
        file.write_bytes(b"half")
    os.utime(old, (1000, 1000))
    cache.get("a", "1", embedding)
    assert (old.exists(), new.exists()) == (False, True)
