"""The cases of a training, and the pool and loader of the unlabeled ones beside nnU-Net's own loaders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2.paths import nnUNet_raw

from nnunet_semisam.context import DataContext, TrainingContext
from nnunet_semisam.data.preprocessing_recipe import refuse_stale
from nnunet_semisam.data.pseudo_label_source import PseudoLabelSource
from nnunet_semisam.data.unlabeled_dataset import UnlabeledDataset, cases_in, collect_pool, unlabeled_folder
from nnunet_semisam.data.unlabeled_images import cases_named_in
from nnunet_semisam.data.unlabeled_loader import UnlabeledLoader
from nnunet_semisam.data.views import UnlabeledViews
from nnunet_semisam.errors import UserError, name_some
from nnunet_semisam.generalists.build import refuse_leaking_adapters
from nnunet_semisam.settings import Settings
from nnunet_semisam.splits.cases_of_fold import cases_of_fold, groups_of_dataset
from nnunet_semisam.splits.folds import Fold


def cases_of_training(data: DataContext, fold: int | str, settings: Settings) -> Fold:
    """Return the checked train, val and unlabeled cases of a fold.

    Raises:
        UserError: If there is no such fold, it cannot be used, or a SAM was adapted to cases that it withholds.
    """
    folder = data.preprocessed_dataset / data.data_identifier
    cases = cases_of_fold(data.preprocessed_dataset, folder, fold, data.configuration_manager, data.log)
    withheld = {*cases.val, *cases.unlabeled} - set(cases.train)
    refuse_leaking_adapters(settings, data.preprocessed_dataset.name, sorted(withheld))
    return cases


def collect_unlabeled(data: DataContext, fold: Fold) -> UnlabeledDataset:
    """Return the pool of a fold: ``imagesUl`` plus the cases whose labels the fold hides.

    Raises:
        UserError: If there is no unlabeled case, one is also labeled or of a test patient, or none is preprocessed
            with these plans.
    """
    refuse_stale(data.preprocessed_dataset, data.plans_manager.plans, data.configuration_manager)
    if nnUNet_raw.is_set():
        _compare_with_raw(data, Path(str(nnUNet_raw)) / data.preprocessed_dataset.name)
    return collect_pool(data.preprocessed_dataset, data.data_identifier, fold.unlabeled, [*fold.train, *fold.val])


def _compare_with_raw(data: DataContext, raw: Path) -> None:
    """Compare ``imagesUl`` with what is preprocessed of it.

    Args:
        data: The data of the training.
        raw: The raw dataset.

    Raises:
        UserError: If none of its images is preprocessed, or one that is was moved to the test images since.
    """
    ending, images = data.dataset_json["file_ending"], raw / "imagesUl"
    there = cases_named_in(images, ending)
    pool = set(cases_in(unlabeled_folder(data.preprocessed_dataset, data.data_identifier)))
    command = (
        f"nnunet-semisam preprocess -d {int(data.preprocessed_dataset.name[7:10])} -c {data.configuration_name} "
        f"-p {data.plans_manager.plans_name}"
    )
    missing = sorted(there - pool)
    if missing and len(missing) == len(there):
        raise UserError(
            f"None of the {len(there)} unlabeled cases in {images} is preprocessed for {data.configuration_name}. "
            f"Run: {command}"
        )
    if missing:
        data.log(
            f"WARNING: {len(missing)} of {len(there)} unlabeled cases in {images} are not preprocessed and are left "
            f"out: {name_some(missing, 5)}."
        )
    if (raw / "dataset.json").is_file():  # else the raw dataset is elsewhere, and says nothing
        _tell_gone(data, sorted(pool - there), cases_named_in(raw / "imagesTs", ending), images, command)


def _tell_gone(data: DataContext, gone: list[str], tests: set[str], images: Path, command: str) -> None:
    """Tell of preprocessed cases whose images were taken out of ``imagesUl``; refuse those of test patients."""
    if not gone:
        return
    group_of, _ = groups_of_dataset(data.preprocessed_dataset)
    tested = {group_of(case) for case in tests}
    leaking = [case for case in gone if group_of(case) in tested]
    if leaking:
        raise UserError(
            f"{len(leaking)} unlabeled case(s) were preprocessed from {images}, are not there any more, and are of "
            f"patients in imagesTs: {name_some(leaking, 5)}. A training would see its test images. Run: {command}   "
            "(it removes what has no image any more)"
        )
    if not images.is_dir():  # a round of self-training gives its pool as preprocessed images alone
        return
    data.log(
        f"WARNING: {len(gone)} unlabeled case(s) were preprocessed from {images} and are not there any more: "
        f"{name_some(gone, 5)}. They are trained on all the same; this removes them: {command}"
    )


@dataclass(frozen=True)
class Augmentation:
    """nnU-Net's augmentation of the labeled patches, which the unlabeled ones share.

    Attributes:
        transforms: What ``nnUNetTrainer.get_training_transforms`` returned.
        initial_patch_size: Patch that is cropped before the spatial transform.
    """

    transforms: Any
    initial_patch_size: Any


def build_unlabeled_loader(
    context: TrainingContext,
    pool: UnlabeledDataset,
    augmentation: Augmentation,
    strong_views: int = 1,
    source: PseudoLabelSource | None = None,
) -> UnlabeledLoader:
    """Return the loader of ``pool``, with the geometry and the transforms of the labeled loader.

    Args:
        context: The training.
        pool: The unlabeled cases.
        augmentation: Of the labeled patches.
        strong_views: How many strong views the method wants.
        source: Where pseudo-labels come from; ``None``: there are none.
    """
    settings, manager, plans = context.settings.run, context.label_manager, context.data.configuration_manager
    masked = [channel for channel, masks in enumerate(plans.use_mask_for_norm) if masks]
    regions = manager.foreground_regions if manager.has_regions else None
    views = UnlabeledViews(augmentation.transforms, settings.strong_intensity_scale, masked, regions, strong_views)
    _tell_of_single_patches(context)
    return UnlabeledLoader(
        pool,
        unlabeled_batch_size(context),
        augmentation.initial_patch_size,
        plans.patch_size,
        manager,
        views,
        0.0
        if source is None
        else oversampled_share(context.settings, plans.batch_size, context.rank, context.world_size),
        source,
    )


def _tell_of_single_patches(context: TrainingContext) -> None:
    """Say that views are not mixed with each other where a process has one patch alone; the last process has fewest."""
    run, processes = context.settings.run, context.world_size
    wanted = run.unlabeled_batch_size or context.data.configuration_manager.batch_size
    if (
        patches_of_rank(wanted, processes - 1, processes) != 1
        or not context.settings.block(run.method).cutmix_probability
    ):
        return
    who = "A step has" if processes == 1 else "Some GPUs get"
    context.log(
        f"WARNING: {who} one unlabeled patch, which is mixed with no other (cutmix_probability). To mix them set "
        f"unlabeled_batch_size to at least {2 * processes}."
    )


def oversampled_share(settings: Settings, planned: int, rank: int = 0, world_size: int = 1) -> float:
    """Return the share of this process's unlabeled patches, in [0, 1], that are centred on a pseudo-label's foreground.

    As nnU-Net does with labeled patches, the last ones of the batch of all processes are: with one patch each, those of
    the last processes.

    Args:
        settings: Of the training.
        planned: Batch size of the plans, for all processes together.
        rank: This process.
        world_size: How many train together.
    """
    if not settings.run.use_sam:
        return 0.0
    wanted, share = settings.run.unlabeled_batch_size or planned, settings.block("sam").oversample_foreground
    first = sum(patches_of_rank(wanted, earlier, world_size) for earlier in range(rank))
    mine = patches_of_rank(wanted, rank, world_size)
    random = min(max(round(wanted * (1 - share)) - first, 0), mine)
    return 1 - random / mine if mine else 0.0


def patches_of_rank(wanted: int, rank: int, world_size: int) -> int:
    """Return how many patches of a batch one process takes: as nnU-Net, the first ones take what is left over."""
    return wanted // world_size + (rank < wanted % world_size)


def unlabeled_batch_size(context: TrainingContext) -> int:
    """Return how many unlabeled patches this process takes per step: its share of the setting, or as many as labeled.

    Raises:
        UserError: If there are fewer patches than processes.
    """
    wanted = context.settings.run.unlabeled_batch_size
    if wanted is None:
        return context.batch_size
    if wanted < context.world_size:
        raise UserError(
            f"The setting unlabeled_batch_size must be at least the number of GPUs, {context.world_size}, got {wanted}."
        )
    return patches_of_rank(wanted, context.rank, context.world_size)
