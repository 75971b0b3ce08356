"""How many unlabeled patches each process takes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import nnunet_semisam.pseudo_labels.settings  # noqa: F401  registers the block sam
from nnunet_semisam.errors import UserError
from nnunet_semisam.settings import Settings
from nnunet_semisam.training.build_loader import oversampled_share, unlabeled_batch_size


def context_of(rank: int, world_size: int, wanted: int | None) -> SimpleNamespace:
    settings = Settings.of(unlabeled_batch_size=wanted)
    return SimpleNamespace(settings=settings, rank=rank, world_size=world_size, batch_size=2)


@pytest.mark.parametrize(("wanted", "world_size", "shares"), [(5, 1, [5]), (5, 2, [3, 2]), (None, 2, [2, 2])])
def test_the_setting_counts_the_patches_of_all_processes(wanted, world_size, shares):
    found = [unlabeled_batch_size(context_of(rank, world_size, wanted)) for rank in range(world_size)]
    assert found == shares


def test_fewer_patches_than_processes_are_refused():
    with pytest.raises(UserError, match="at least the number of GPUs, 2, got 1"):
        unlabeled_batch_size(context_of(0, 2, 1))


@pytest.mark.parametrize(
    ("planned", "world_size", "shares"),
    [(2, 1, [0.5]), (2, 2, [0.0, 1.0]), (4, 4, [0.0, 0.0, 0.0, 1.0]), (5, 2, [0.0, 1.0]), (12, 2, [0.0, 4 / 6])],
)
def test_as_many_patches_are_centred_on_foreground_in_several_processes_as_in_one(planned, world_size, shares):
    settings = Settings.of(use_sam=True, sam={"oversample_foreground": 1 / 3})
    found = [oversampled_share(settings, planned, rank, world_size) for rank in range(world_size)]
    assert found == pytest.approx(shares)


def test_without_pseudo_labels_no_patch_is_centred_on_foreground():
    assert oversampled_share(Settings(), 2) == 0.0
