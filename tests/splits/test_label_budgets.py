"""Groups and the order of labeling: what converters, ``split`` and ``benchmark`` have in common."""

import pytest

from nnunet_semisam.errors import UserError
from nnunet_semisam.splits.case_assignment import assignment_from_order
from nnunet_semisam.splits.label_budgets import Grouping, group_order, labeling_order, read_grouping, write_grouping

MEMBERS = {f"p{i}": [f"p{i}_a", f"p{i}_b"] for i in range(6)}
WRITTEN = Grouping("^(p[0-9])_", ["p3", "p1", "p2", "p5"], ["p5"])


def test_order_file_may_name_groups_and_cases_with_comments(tmp_path):
    (tmp_path / "order").write_text("# who was scanned first\np4_b # the second visit\np1\np4_a\n\n")
    order = group_order(MEMBERS, 0, tmp_path / "order")
    assert order[:2] == ["p4", "p1"]
    assert sorted(order) == sorted(MEMBERS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("p9\n", "groups without labels: p9. Known are"),
        ("p1\np1\n", "something twice: p1"),
        ("# nothing\n", "names no group"),
    ],
)
def test_faulty_order_file_is_refused(tmp_path, text, message):
    (tmp_path / "order").write_text(text)
    with pytest.raises(UserError, match=message):
        group_order(MEMBERS, 0, tmp_path / "order")


def test_converters_order_holds_until_another_is_asked_for(tmp_path):
    write_grouping(tmp_path, WRITTEN)
    written = read_grouping(tmp_path)
    assert written == WRITTEN
    order, val = labeling_order(written, MEMBERS, None, None, None)
    assert (order[:3], order[5:], val) == (["p3", "p1", "p2"], ["p5"], ["p5"])
    assert set(order[3:5]) == {"p0", "p4"}  # labeled later than the conversion
    assert labeling_order(written, MEMBERS, WRITTEN.pattern, None, None) == (order, val)
    for pattern, seed in (("^p[0-9]", None), (None, 7)):
        assert labeling_order(written, MEMBERS, pattern, seed, None)[1] is None
    assert labeling_order(Grouping(), MEMBERS, None, None, None)[0] == group_order(MEMBERS, 12345, None)


@pytest.mark.parametrize(("groups", "validating"), [(1, 0), (2, 1), (5, 1), (7, 1), (8, 2), (9, 2), (11, 2), (96, 19)])
def test_a_fifth_validates_rounded(groups, validating):
    assignment = assignment_from_order(["1"], None, [f"p{i}" for i in range(groups)])
    assert len(assignment.val) == validating
    assert bool(assignment.notes) == (groups == 1)  # it validates on itself


def test_a_case_stands_for_its_group():
    assignment = assignment_from_order(["p2_a", "p4"], ["p1_b"], sorted(MEMBERS), members=MEMBERS)
    assert (assignment.labeled, assignment.val) == ([["p2", "p4"]], ["p1"])
    assert assignment.order == ["p2", "p4", "p0", "p3", "p5", "p1"]
