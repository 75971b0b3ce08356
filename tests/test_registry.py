import pytest

from nnunet_semisam.errors import UserError
from nnunet_semisam.registry import Registry


@pytest.fixture
def methods() -> Registry:
    registry = Registry("semi-supervised method")
    registry.register("mean_teacher")(dict)
    registry.register("cross_teaching")(list)
    return registry


def test_member_is_found_by_its_name(methods):
    assert methods.get("mean_teacher") is dict
    assert methods.names() == ["cross_teaching", "mean_teacher"]


def test_decorator_returns_what_it_files(methods):
    def member():
        return 1

    assert methods.register("third")(member) is member


def test_unknown_name_is_refused_with_the_closest_one(methods):
    with pytest.raises(UserError) as error:
        methods.get("mean_teachr")
    assert str(error.value) == (
        "Unknown semi-supervised method 'mean_teachr'. Did you mean 'mean_teacher'? "
        "Available: cross_teaching, mean_teacher."
    )


def test_name_far_from_all_gets_no_suggestion(methods):
    with pytest.raises(UserError, match=r"'xyz'\. Available"):
        methods.get("xyz")


def test_registering_a_name_twice_is_a_mistake(methods):
    with pytest.raises(ValueError, match="already dict"):
        methods.register("mean_teacher")(list)
    assert methods.get("mean_teacher") is dict
