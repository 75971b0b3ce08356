"""Rolling over the pool, and sharing the work."""

from nnunet_semisam.pseudo_labels.selection import cases_for_round, shard

POOL = ["e", "b", "a", "d", "c"]


def test_rounds_roll_over_the_sorted_pool():
    assert [cases_for_round(POOL, r, 2) for r in range(4)] == [["a", "b"], ["c", "d"], ["e", "a"], ["b", "c"]]


def test_all_cases_when_no_number_or_a_large_one_is_given():
    assert cases_for_round(POOL, 3, None) == cases_for_round(POOL, 3, 99) == ["a", "b", "c", "d", "e"]


def test_every_case_is_on_exactly_one_process():
    shards = [shard(POOL, rank, 3) for rank in range(3)]
    assert shards == [["e", "d"], ["b", "c"], ["a"]]
    assert shard(["x"], 2, 3) == []
