"""Views: volumes become images and come back unchanged."""

import numpy as np
import pytest

from nnunet_semisam.errors import UserError
from nnunet_semisam.generalists.views import CaseGrid, Slices, WholeVolume, choose_view, require_spacing
from nnunet_semisam.prompts.components import find_components

GRID = CaseGrid((5, 20, 30), (3.0, 1.0, 1.0))


class Isotropic(WholeVolume):
    """A view that resamples, and so needs millimetres."""

    name, needs_spacing = "isotropic", True


@pytest.mark.parametrize("view", [Slices(0), Slices(1), Slices(2), WholeVolume()])
def test_what_becomes_images_comes_back_in_place(view):
    volume = np.random.default_rng(0).random((2, *GRID.shape))
    images = view.images(volume, GRID)
    assert images.ndim == 2 + view.spatial_dims
    assert images.shape[1] == 2
    assert np.array_equal(view.back(images, GRID), volume)


def test_components_lie_in_the_images_of_the_view():
    probs = np.zeros((1, *GRID.shape), dtype=np.float32)
    probs[0, 2, 4:10, 5:15] = 0.9
    for view, image, box in ((Slices(0), 2, [[4, 10], [5, 15]]), (WholeVolume(), 0, [[2, 3], [4, 10], [5, 15]])):
        (component,) = view.components(probs, GRID, lambda each: find_components(each, overlapping=False))
        assert component.image == image
        assert component.box.tolist() == box


def test_views_of_other_images_have_other_names():
    assert len({view.name for view in (Slices(0), Slices(1), Slices(2), WholeVolume())}) == 4


def test_a_view_that_needs_geometry_refuses_a_case_without():
    require_spacing(Isotropic(), "case_1", (1.0, 1.0, 1.0))
    require_spacing(Slices(0), "case_1", None)
    with pytest.raises(UserError, match="'isotropic' needs the voxel size of case 'case_1'"):
        require_spacing(Isotropic(), "case_1", None)


def test_settings_choose_a_view_that_the_sam_takes():
    assert choose_view(None, None, 2, (1.0, 5.0, 1.0)) == Slices(1)
    assert choose_view("slices", 2, 2, (1.0, 5.0, 1.0)) == Slices(2)
    assert choose_view(None, None, 2, (1.0, 1.0)) == Slices(0)
    assert choose_view(None, None, 3, (1.0, 5.0, 1.0)) == WholeVolume()
    with pytest.raises(UserError, match=r"There is no view 'planes'\. There are slices, volume"):
        choose_view("planes", None, 3, (1.0, 5.0, 1.0))
    with pytest.raises(UserError, match="makes images of 3 axes, the SAM takes 2"):
        choose_view("volume", None, 2, (1.0, 5.0, 1.0))
