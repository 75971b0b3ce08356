"""Content has one name, which must not change between versions: fingerprints of data are compared."""

import hashlib

import pytest

from nnunet_semisam.io import hashes


@pytest.mark.parametrize("size", [0, 1, hashes.BLOCK_BYTES, 2 * hashes.BLOCK_BYTES + 7])
def test_a_file_is_named_by_all_of_its_content(tmp_path, size):
    content = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "file").write_bytes(content[:size])
    assert hashes.sha256_of(tmp_path / "file") == hashlib.sha256(content[:size]).hexdigest()


def test_a_missing_file_has_no_name(tmp_path):
    with pytest.raises(OSError, match="nothing"):
        hashes.sha256_of(tmp_path / "nothing")


def test_values_are_those_of_earlier_runs():
    """Written down once: they stand in study.json, in checkpoints and beside preprocessed data."""
    assert hashes.sha256_of_text("nnU-Net ä").startswith("88c9e1b126e01ed3")
    assert hashes.sha256_of_json({"train": ["b", "a"], "val": [], "k": 1.5}).startswith("eb1f05e8fb36099a")
    assert hashes.sha256_of_json(["b", "a"]) == hashes.sha256_of_text('["b", "a"]')


def test_the_order_of_lists_counts_and_that_of_keys_does_not():
    assert hashes.sha256_of_json([1, 2]) != hashes.sha256_of_json([2, 1])
    assert hashes.sha256_of_json({"a": {"c": 1, "b": 2}}) == hashes.sha256_of_json({"a": {"b": 2, "c": 1}})
