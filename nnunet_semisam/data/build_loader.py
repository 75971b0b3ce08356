"""Build the unlabeled pool and its loader for a training, next to nnU-Net's own loaders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_semisam.data.preprocess_unlabeled import refuse_stale
from nnunet_semisam.data.unlabeled_dataset import UnlabeledDataset, collect_pool
from nnunet_semisam.data.unlabeled_loader import UnlabeledLoader
from nnunet_semisam.data.views import UnlabeledViews

if TYPE_CHECKING:
    from nnunet_semisam.trainer import SemiSupervisedTrainer


def collect_unlabeled(trainer: SemiSupervisedTrainer) -> UnlabeledDataset:
    """Return the pool of the trainer's fold: ``imagesUl`` plus the cases whose labels the fold hides.

    Raises:
        UserError: If there is no unlabeled case, one is also labeled, or one is not preprocessed with these plans.
    """
    preprocessed, configuration = Path(trainer.preprocessed_dataset_folder_base), trainer.configuration_manager
    refuse_stale(preprocessed, trainer.plans_manager.plans, configuration)
    fold = trainer.fold_cases()
    return collect_pool(preprocessed, configuration.data_identifier, fold.unlabeled, [*fold.train, *fold.val])


def build_unlabeled_loader(trainer: SemiSupervisedTrainer, pool: UnlabeledDataset) -> UnlabeledLoader:
    """Return the loader of ``pool``, with the geometry and the transforms of the trainer's labeled loader."""
    config, manager, plans = trainer.config, trainer.label_manager, trainer.configuration_manager
    geometry = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    rotation, dummy_2d, initial_patch_size, mirror_axes = geometry
    transforms = trainer.get_training_transforms(plans.patch_size, rotation, None, mirror_axes, dummy_2d)
    masked = [channel for channel, masks in enumerate(plans.use_mask_for_norm) if masks]
    regions = manager.foreground_regions if manager.has_regions else None
    return UnlabeledLoader(
        pool,
        config.unlabeled_batch_size or trainer.batch_size,
        initial_patch_size,
        plans.patch_size,
        manager,
        UnlabeledViews(transforms, config.strong_intensity_scale, masked, regions),
        config.oversample_pseudo_foreground if trainer.pseudo_labels else 0.0,
        trainer.pseudo_labels.reader if trainer.pseudo_labels else None,
    )
