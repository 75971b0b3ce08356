"""The look of our pictures is ours, and stays there."""

import matplotlib
import pytest

from nnunet_semisam.figures import class_color, figure_style, new_figure, save_figure


def test_style_is_the_same_whatever_was_set_before_and_leaves_nothing_behind():
    inside = []
    for size in (10.0, 25.0):  # nnU-Net scales all fonts by 2.5
        with matplotlib.rc_context({"font.size": size, "axes.facecolor": "red"}):
            with figure_style():
                inside.append((matplotlib.rcParams["font.size"], matplotlib.rcParams["axes.facecolor"]))
            assert (matplotlib.rcParams["font.size"], matplotlib.rcParams["axes.facecolor"]) == (size, "red")
    assert inside == [(9.0, "white")] * 2


def test_style_is_undone_after_an_error():
    before = dict(matplotlib.rcParams)
    with pytest.raises(ZeroDivisionError), figure_style():
        raise ZeroDivisionError
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_same_figure_gives_the_same_file(tmp_path, ending):
    contents = []
    for name in ("a", "b"):
        with figure_style():
            figure = new_figure(2, 1)
            figure.subplots().plot([0, 1], [0, 1], label="a$b_$ is no formula")
            figure.legend()
            save_figure(figure, tmp_path / "new" / f"{name}.{ending}")
        contents.append((tmp_path / "new" / f"{name}.{ending}").read_bytes())
    assert contents[0] == contents[1]
    assert len(list((tmp_path / "new").iterdir())) == 2


def test_colours_of_neighbouring_classes_differ():
    assert len({class_color(f) for f in range(8)}) == 8
    assert class_color(8) == class_color(0)
