"""Where patients are called by numbers, a word is never taken for a count that was meant as a name, or the reverse."""

import re

import pytest

from nnunet_semisam.errors import UserError
from nnunet_semisam.splits.case_assignment import assignment_from_order, choose_labeled, last_groups
from nnunet_semisam.splits.group_selection import as_name

PADDED = {f"{i:03d}": [f"{i:03d}"] for i in range(1, 13)}
PLAIN = {f"{i}": [f"p{i}_a", f"p{i}_b"] for i in range(1, 13)}


def assignment(labeled, val, members=PADDED):
    return assignment_from_order(labeled, val, list(members), members=members)


def test_number_with_leading_zeros_is_the_name_that_it_is():
    found = assignment(["2"], ["005"])
    assert (found.labeled, found.val) == ([["001", "002"]], ["005"])
    assert assignment(["005", "006"], ["1"]).labeled == [["005", "006"]]
    assert last_groups("--test", ["003"], list(PADDED), PADDED) == ["003"]


def test_name_that_is_taken_already_is_not_read_as_a_number():
    order = [group for group in PADDED if group != "003"]
    with pytest.raises(UserError, match="--val 003: not among the 11 that can be chosen"):
        assignment_from_order(["2"], ["003"], order, members=PADDED)
    with pytest.raises(UserError, match="--labeled 005: not among the 11"):
        assignment(["005", "006"], ["005"])


def test_leading_zeros_that_name_nothing_are_no_number_either():
    for option in (["099"], ["010", "12"]):
        with pytest.raises(UserError, match=rf"--val {option[0]}: a number has no leading zeros, .* whole names"):
            assignment(["2"], option, {f"patient{i:03d}": [] for i in range(120)})


@pytest.mark.parametrize("words", [["10"], ["1", "3", "7"]])
def test_word_that_may_be_both_is_an_error_with_two_ways_out(words):
    said = f"--labeled {' '.join(words)}: {words[0]} may be a number or a name"
    with pytest.raises(UserError, match=re.escape(said) + rf".* Write \+{words[0]} .* or name:{words[0]} for the name"):
        choose_labeled(words, list(PLAIN), members=PLAIN)
    numbers = choose_labeled([f"+{word}" for word in words], list(PLAIN), members=PLAIN)
    assert [len(groups) for groups in numbers] == [*map(int, words)]
    assert choose_labeled([f"name:{word}" for word in words], list(PLAIN), members=PLAIN) == [words]


def test_words_beside_a_name_are_names_and_so_are_several_where_one_number_is_taken():
    assert choose_labeled(["3", "p7_b"], list(PLAIN), members=PLAIN) == [["3", "7"]]
    assert last_groups("--val", ["3", "7"], list(PLAIN), PLAIN) == ["3", "7"]
    with pytest.raises(UserError, match="--val 3: 3 may be a number or a name"):
        last_groups("--val", ["3"], list(PLAIN), PLAIN)
    with pytest.raises(UserError, match="--labeled takes numbers or names, not both; got 20 p7_b"):
        choose_labeled(["20", "p7_b"], list(PLAIN), members=PLAIN)
    with pytest.raises(UserError, match=r"--val takes one number, or names; got \+3 \+7. Give one number"):
        last_groups("--val", ["+3", "+7"], list(PLAIN), PLAIN)


def test_number_that_is_larger_than_all_groups_can_only_be_a_name():
    members = {str(number): [f"case{number}"] for number in (101, 102, 103, 104)}
    found = assignment(["102", "104"], ["101"], members)
    assert (found.labeled, found.val) == ([["102", "104"]], ["101"])


def test_a_fifth_validates_where_patients_have_numbers():
    assert len(assignment(["+1"], None, PLAIN).val) == 2  # a fifth of twelve, whatever patient 2 is called


def test_name_is_written_so_that_it_is_read_as_one():
    assert [*map(as_name, ["p3", "3", "003", "all"])] == ["p3", "name:3", "name:003", "name:all"]
    for name in PLAIN:
        assert last_groups("--val", [as_name(name)], list(PLAIN), PLAIN) == [name]
