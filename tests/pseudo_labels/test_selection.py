"""Rolling over the pool, and sharing the work."""

from nnunet_semisam.pseudo_labels.selection import cases_for_round, rolling_window, shard

POOL = ["e", "b", "a", "d", "c"]


def rounds_of(pool: list[str], *sizes: int) -> list[list[str]]:
    """Return the cases of rounds of these sizes, one after the other."""
    turns: dict[str, int] = {}
    rounds = []
    for index, size in enumerate(sizes):
        rounds.append(cases_for_round(pool, turns, size))
        turns |= dict.fromkeys(rounds[-1], index)
    return rounds


def test_every_case_has_its_turn_before_any_has_a_second_one():
    """A large first round and small ones after it, as a long training has them."""
    pool = [f"case_{i:04d}" for i in range(1980)]
    first, *others = rounds_of(pool, 875, *[44] * 26)
    seen = [case for each in others for case in each]
    assert len(set(first) | set(seen)) == 1980, "26 rounds of 44 are enough for the 1,105 that waited"
    assert set(seen[:1105]).isdisjoint(first)
    assert set(seen[1105:]) <= set(first), "then it goes on with those whose turn is longest ago"


def test_those_whose_turn_is_longest_ago_come_first():
    assert set(cases_for_round(POOL, {"a": 3, "b": 1, "c": 2, "d": 1, "e": 3}, 3)) == {"b", "d", "c"}


def test_the_order_depends_on_names_only_and_is_not_the_alphabet():
    pool = [f"case_{i:02d}" for i in range(20)]
    drawn = cases_for_round(pool, {}, 20)
    assert drawn == cases_for_round(pool[::-1], {}, 20)
    assert sorted(drawn) == pool
    assert drawn != pool


def test_all_cases_when_a_large_number_is_asked_for():
    assert sorted(cases_for_round(POOL, {}, 99)) == ["a", "b", "c", "d", "e"]


def test_windows_go_on_where_the_one_before_ended():
    assert [rolling_window(POOL, i, 2) for i in range(4)] == [["a", "b"], ["c", "d"], ["e", "a"], ["b", "c"]]
    assert rolling_window(POOL, 3, 99) == ["a", "b", "c", "d", "e"]


def test_every_case_is_on_exactly_one_process():
    shards = [shard(POOL, rank, 3) for rank in range(3)]
    assert shards == [["e", "d"], ["b", "c"], ["a"]]
    assert shard(["x"], 2, 3) == []
