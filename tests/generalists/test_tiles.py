"""The view of tiles: objects come back where they were, whatever the grid of the case and the borders of tiles."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from tiny_world import ThresholdSAM, classes

from nnunet_semisam.data.geometry import UPRIGHT, preprocessed_direction
from nnunet_semisam.data.geometry_of_images import geometry_of_files
from nnunet_semisam.errors import UserError
from nnunet_semisam.generalists.base import CaseInput
from nnunet_semisam.generalists.build import build_generalist
from nnunet_semisam.generalists.canonical_grid import CanonicalGrid
from nnunet_semisam.generalists.embedding_cache import EmbeddingCache
from nnunet_semisam.generalists.tiled_sam import ObjectMask
from nnunet_semisam.generalists.tiles import Tiles
from nnunet_semisam.pseudo_labels import settings as pseudo_label_settings  # noqa: F401  registers the block sam
from nnunet_semisam.sam.base import MaskPrediction
from nnunet_semisam.settings import Settings

SHAPE, SPACING = (14, 60, 44), (4.0, 1.2, 1.6)
# sagittal: the array's axes lead to the left, to the head and to the front
SAGITTAL = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0), (1.0, 0.0, 0.0))
OBLIQUE = ((0.96, -0.28, 0.0), (0.28, 0.96, 0.0), (0.0, 0.0, -1.0))


class TileSAM(ThresholdSAM):
    """Thresholds tiles, and remembers what it saw."""

    def __init__(self, side: int) -> None:
        super().__init__(spatial_dims=3, kinds=("points", "mask"))
        self.tile_side = side
        self.seen: list[torch.Tensor] = []

    def encode(self, images):
        assert images.shape[1:] == (1, *(self.tile_side,) * 3)
        self.seen.append(images)
        return super().encode(images)


def ellipsoid(center=(8.0, 20.0, 28.0), radii=(3.0, 9.0, 12.0), shape=SHAPE) -> np.ndarray:
    """Off-centre, of another extent along each axis, bool (Z, Y, X)."""
    grid = np.indices(shape)
    return sum(((axis - c) / r) ** 2 for axis, c, r in zip(grid, center, radii, strict=True)) < 1


def smooth(mask: np.ndarray) -> np.ndarray:
    """What the threshold of the image would be after resampling: a ramp over the surface, 0.5 where the mask ends."""
    from scipy import ndimage

    distance = ndimage.distance_transform_edt(mask, SPACING) - ndimage.distance_transform_edt(~mask, SPACING)
    return np.clip(0.5 + distance / 8, 0, 1).astype(np.float32)


def built(tmp_path, sam, channels: int = 1, **block):
    settings = Settings.of(use_sam=True, nano={"prompt": "points", "refinement": "none", **block})
    cache = EmbeddingCache(tmp_path / "cache", "3d_fullres", 1.0)
    return build_generalist("nano", sam, settings, classes(channels), cache, SPACING)


def case_of(*masks: np.ndarray, direction=None, spacing=SPACING) -> CaseInput:
    image = np.max([smooth(mask) for mask in masks], axis=0)[None]
    foreground = [np.roll(0.9 * mask, 1, axis=2) for mask in masks]
    specialist = np.stack([1 - np.sum(foreground, axis=0), *foreground]).astype(np.float32)
    return CaseInput("case_a", image, specialist, spacing, direction)


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * (first & second).sum() / (first.sum() + second.sum())


@pytest.mark.parametrize(
    "direction", [None, UPRIGHT, SAGITTAL, OBLIQUE], ids=["none", "upright", "sagittal", "oblique"]
)
@pytest.mark.parametrize("side", [128, 24], ids=["one tile", "crosses tiles"])
def test_an_object_comes_back_where_it_was(tmp_path, direction, side):
    truth = ellipsoid()
    sam = TileSAM(side)
    result = built(tmp_path, sam).predict_case(case_of(truth, direction=direction))
    assert result.counts.prompts == (1,)
    assert result.counts.rejected == (0,)
    assert dice(result.prediction.probs[0] > 0.5, truth) > 0.95
    assert (len(sam.seen) == 1) == (side == 128)
    assert result.prediction.probs.shape == (1, *SHAPE)
    assert result.prediction.probs.dtype == result.prediction.reliability.dtype == np.float32


@pytest.mark.parametrize("direction", [UPRIGHT, SAGITTAL])
def test_the_model_sees_right_front_head_at_the_size_of_its_voxels(tmp_path, direction):
    """A spot near the patient's left, back and head lies at small, small and large indices of every tile."""
    canonical = CanonicalGrid(SHAPE, SPACING, direction, 1.5)
    columns = np.asarray(direction).T  # per array axis: (z, y, x) to head, back, left
    at = [0.75 if column[np.argmax(np.abs(column))] > 0 else 0.25 for column in columns]
    where = [round(share * (size - 1)) for share, size in zip(at, SHAPE, strict=True)]
    spot = np.zeros(SHAPE, dtype=np.float32)
    spot[tuple(where)] = 1.0
    found = np.unravel_index(canonical.to_canonical(spot[None])[0].argmax(), canonical.shape)
    shares = [index / size for index, size in zip(found, canonical.shape, strict=True)]
    assert shares[0] < 0.4
    assert shares[1] < 0.4
    assert shares[2] > 0.6
    millimetres = np.array(SHAPE) * SPACING
    assert sorted(canonical.shape) == sorted(round(float(mm) / 1.5) for mm in millimetres)


@pytest.mark.parametrize("code", ["LPS", "RAI", "PIR", "SLA", "ASL"])
@pytest.mark.parametrize("transpose_forward", [(0, 1, 2), (2, 0, 1)])
def test_the_canonical_volume_is_that_of_simpleitk(tmp_path, code, transpose_forward):
    base = SimpleITK.GetImageFromArray(np.random.default_rng(0).random((4, 5, 6)).astype(np.float32))
    image = SimpleITK.DICOMOrient(base, code)
    SimpleITK.WriteImage(image, str(tmp_path / "case.nii.gz"))
    geometry = geometry_of_files([tmp_path / "case.nii.gz"], SimpleITKIO)
    preprocessed = SimpleITK.GetArrayFromImage(image).transpose(transpose_forward)
    direction = preprocessed_direction(geometry.direction, transpose_forward)
    canonical = CanonicalGrid(preprocessed.shape, (1.0, 1.0, 1.0), direction, 1.0).to_canonical(preprocessed[None])
    expected = SimpleITK.GetArrayFromImage(SimpleITK.DICOMOrient(base, "RAS")).transpose(2, 1, 0)
    assert np.array_equal(canonical[0], expected)


def test_going_there_and_back_changes_a_smooth_volume_little():
    volume = np.add.outer(np.add.outer(np.arange(14.0) * 4, np.arange(60.0) * 1.2), np.arange(44.0) * 1.6)[None]
    for direction in (UPRIGHT, SAGITTAL):
        grid = CanonicalGrid(SHAPE, SPACING, direction, 1.5)
        canonical = grid.to_canonical(volume)
        assert canonical.shape == (1, *grid.shape)
        back = grid.to_case(canonical[0], tuple(slice(0, size) for size in grid.shape))
        inner = (slice(1, -1), slice(1, -1), slice(1, -1))
        assert np.abs(back - volume[0])[inner].max() < 0.01  # linear in millimetres, so linear interpolation is exact


def test_every_voxel_lies_in_a_tile_and_small_volumes_in_the_middle_of_one():
    tiles = Tiles(16, 1.5, 0.5)
    for shape in ((10, 40, 16), (33, 17, 5)):
        covered = np.zeros(shape, dtype=bool)
        for corner in tiles.corners(shape):
            covered[tuple(slice(max(0, first), first + 16) for first in corner)] = True
        assert covered.all()
    assert tiles.corners((10, 16, 16)) == [(-3, 0, 0)]


def test_tiles_are_filled_up_with_the_least_value():
    volume = np.arange(1.0, 9.0).reshape(1, 2, 2, 2)
    tile = Tiles(4, 1.5, 0.5).cut(volume, (-1, -1, -1))
    assert tile.shape == (1, 4, 4, 4)
    assert np.array_equal(tile[0, 1:3, 1:3, 1:3], volume[0])
    assert (tile.sum(), tile[0, 0, 0, 0]) == (36 + 56, 1)


def test_where_tiles_overlap_their_logits_are_averaged_and_their_agreement_counts():
    mask = ObjectMask([(0, 0, 0), (0, 0, 1)], 2, (2, 2, 3))
    shape = (2, 2, 2)
    mask.add((0, 0, 0), np.full(shape, 0.9, dtype=np.float32), np.ones(shape, dtype=np.float32))
    mask.add((0, 0, 1), np.full(shape, 0.2, dtype=np.float32), np.full(shape, 0.5, dtype=np.float32))
    probs, reliability, seen = mask.within((slice(0, 1), slice(0, 1), slice(0, 3)))
    both = (np.log(0.9 / 0.1) + np.log(0.2 / 0.8)) / 2
    assert probs.ravel() == pytest.approx([0.9, 1 / (1 + np.exp(-both)), 0.2], abs=1e-5)
    variance = (0.9**2 + 0.2**2) / 2 - 0.55**2
    assert reliability.ravel() == pytest.approx([1.0, (1 - 4 * variance) * 0.75, 0.5], abs=1e-5)
    assert seen.all()
    assert mask.area == 8  # two of three columns


def test_an_object_in_several_tiles_is_prompted_once_and_rejected_as_one(tmp_path):
    class Nothing(TileSAM):
        def decode(self, embedding, prompts):
            decoded = super().decode(embedding, prompts)
            return MaskPrediction(torch.full_like(decoded.logits, -10.0), decoded.quality)

    result = built(tmp_path, Nothing(24)).predict_case(case_of(ellipsoid()))
    assert (result.counts.prompts, result.counts.rejected, result.counts.empty) == ((1,), (1,), (1,))
    assert not result.prediction.predicted.any()
    assert result.prediction.rejected[0][np.roll(ellipsoid(), 1, axis=2)].mean() > 0.95


def test_a_mask_that_leaks_out_of_the_window_is_rejected(tmp_path):
    class Everything(TileSAM):
        def decode(self, embedding, prompts):
            decoded = super().decode(embedding, prompts)
            return MaskPrediction(torch.full_like(decoded.logits, 10.0), decoded.quality)

    result = built(tmp_path, Everything(128)).predict_case(case_of(ellipsoid(radii=(2.0, 5.0, 5.0))))
    assert result.counts.rejected == (1,)
    assert result.counts.empty == (0,)


def test_two_classes_keep_to_their_channels(tmp_path):
    first, second = ellipsoid((8, 15, 10), (3, 8, 7)), ellipsoid((6, 45, 30), (3, 9, 9))
    result = built(tmp_path, TileSAM(32), channels=2).predict_case(case_of(first, second))
    assert result.counts.prompts == (1, 1)
    for channel, truth in enumerate((first, second)):
        assert dice(result.prediction.probs[channel] > 0.5, truth) > 0.93


def test_only_tiles_with_a_prompt_are_encoded_and_only_once(tmp_path):
    case = case_of(ellipsoid((4, 10, 8), (2.5, 5, 5)))
    sam = TileSAM(24)
    generalist = built(tmp_path, sam)
    total = len(generalist.tiles.corners(CanonicalGrid(SHAPE, SPACING, UPRIGHT, 1.5).shape))
    first = generalist.predict_case(case)
    assert (sam.encoded, first.cache_hit) == (1, False)
    assert total > 10
    again = built(tmp_path, sam).predict_case(case)
    assert (sam.encoded, again.cache_hit) == (1, True)
    assert np.array_equal(again.prediction.probs, first.prediction.probs)


def test_other_tiles_have_another_name_in_the_cache():
    names = {Tiles(side, mm, step).name for side, mm, step in itertools.product((64, 128), (1.5, 2.0), (0.5, 1.0))}
    assert len(names) == 8


def test_memory_is_that_of_the_volume_and_one_object(tmp_path):
    """27 tiles of 32 voxels are 3.4 times the volume, and masks of all would be 34 times; a few are allocated."""
    import tracemalloc

    shape = (64, 64, 64)
    truth = ellipsoid((20, 28, 34), (10, 11, 12), shape)
    specialist = np.stack([~truth, truth]).astype(np.float32)
    case = CaseInput("big", truth[None].astype(np.float32), specialist, (1.5, 1.5, 1.5))
    generalist = built(tmp_path, TileSAM(32), tile_step=0.5)
    generalist.predict_case(case)  # loads whatever is loaded once
    tracemalloc.start()
    generalist.predict_case(case)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    volume = 4 * 64**3
    assert peak < 12 * volume, f"{peak / volume:.1f} volumes"


def test_a_case_without_voxel_size_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"needs the voxel size of case 'case_a'.*nnunet-semisam preprocess"):
        built(tmp_path, TileSAM(24)).predict_case(case_of(ellipsoid(), spacing=None))


def test_a_photo_that_calls_itself_a_metre_thick_is_refused(tmp_path):
    case = CaseInput(
        "photo", np.zeros((1, 1, 512, 512), np.float32), np.zeros((2, 1, 512, 512), np.float32), (9990.0, 10.0, 10.0)
    )
    with pytest.raises(UserError, match=r"Are the spacings of the images right"):
        built(tmp_path, TileSAM(24)).predict_case(case)


def test_the_view_must_fit_the_model(tmp_path):
    with pytest.raises(UserError, match=r"view: volume.*takes tiles of 24 voxels a side only"):
        built(tmp_path, TileSAM(24), view="volume")
    with pytest.raises(UserError, match=r"view: tiles.*takes images of any size"):
        built(tmp_path, ThresholdSAM(3), view="tiles")


def test_prototypes_refuse_a_model_that_sees_tiles(tmp_path, monkeypatch):
    from nnunet_semisam.generalists import prototypes
    from nnunet_semisam.generalists.base import GeneralistContext

    monkeypatch.setattr(prototypes, "build_backend", lambda name, options: TileSAM(24))
    settings = Settings.of(use_sam=True, sam={"models": ["prototypes"]}, prototypes={"encoder": "sam_med3d"})
    cache, device = EmbeddingCache(tmp_path, "3d_fullres", 1.0), torch.device("cpu")
    with pytest.raises(UserError, match=r"encoder: sam_med3d.*sees tiles only"):
        prototypes.build(GeneralistContext(settings, classes(), cache, SPACING, device, None, None))


@pytest.mark.realdata
@pytest.mark.skipif("NNUNET_SEMISAM_TEST_DATA" not in os.environ, reason="NNUNET_SEMISAM_TEST_DATA is not set")
@pytest.mark.parametrize(
    ("file", "limit"),
    [
        ("ACDC/database/training/patient082/patient082_frame01_gt.nii.gz", 0.98),  # slices of 10 mm
        ("Task04_Hippocampus/labelsTr/hippocampus_004.nii.gz", 0.92),  # voxels of 1 mm, smaller than the grid's
    ],
)
def test_a_real_label_that_the_model_finds_comes_back(tmp_path, file, limit):
    path = Path(os.environ["NNUNET_SEMISAM_TEST_DATA"]) / file
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    truth = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))) == 1
    geometry = geometry_of_files([path], SimpleITKIO)
    image = truth[None].astype(np.float32)
    case = CaseInput("real", image, np.concatenate([1 - image, image]), geometry.spacing, geometry.direction)
    result = built(tmp_path, TileSAM(32)).predict_case(case)
    assert result.counts.prompts[0] >= 1
    assert dice(result.prediction.probs[0] > 0.5, truth) > limit
