"""Build the unlabeled pool and its loader for a training, next to nnU-Net's own loaders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from nnunetv2.paths import nnUNet_raw

from nnunet_semisam.data.preprocess_unlabeled import refuse_stale
from nnunet_semisam.data.unlabeled_dataset import UnlabeledDataset, cases_in, collect_pool, unlabeled_folder
from nnunet_semisam.data.unlabeled_loader import UnlabeledLoader
from nnunet_semisam.data.views import UnlabeledViews
from nnunet_semisam.errors import UserError

if TYPE_CHECKING:
    from nnunet_semisam.splits.folds import Fold
    from nnunet_semisam.training.trainer import SemiSupervisedTrainer


class KnowsItsData(Protocol):
    """What :func:`collect_unlabeled` asks of a trainer, so that its checks can be made before there is one."""

    preprocessed_dataset_folder_base: str | Path
    plans_manager: Any
    configuration_manager: Any
    configuration_name: str
    dataset_json: dict[str, Any]

    def fold_cases(self) -> Fold:
        """Return the checked cases of the fold."""

    def print_to_log_file(self, text: str) -> Any:
        """Tell the user."""


def collect_unlabeled(trainer: KnowsItsData) -> UnlabeledDataset:
    """Return the pool of the trainer's fold: ``imagesUl`` plus the cases whose labels the fold hides.

    Raises:
        UserError: If there is no unlabeled case, one is also labeled, or one is not preprocessed with these plans.
    """
    preprocessed, configuration = Path(trainer.preprocessed_dataset_folder_base), trainer.configuration_manager
    refuse_stale(preprocessed, trainer.plans_manager.plans, configuration)
    _check_complete(trainer, preprocessed, configuration.data_identifier)
    fold = trainer.fold_cases()
    return collect_pool(preprocessed, configuration.data_identifier, fold.unlabeled, [*fold.train, *fold.val])


def _check_complete(trainer: KnowsItsData, preprocessed: Path, data_identifier: str) -> None:
    """Tell of images in ``imagesUl`` that are not preprocessed; refuse if none is. Knows only where nnUNet_raw is."""
    if not nnUNet_raw.is_set():
        return
    ending = trainer.dataset_json["file_ending"]
    images = Path(str(nnUNet_raw)) / preprocessed.name / "imagesUl"
    files = [file.name for file in images.glob(f"*{ending}") if not file.name.startswith(".")]
    raw = {name.removesuffix(ending).rpartition("_")[0] for name in files}
    missing = sorted(raw - set(cases_in(unlabeled_folder(preprocessed, data_identifier))))
    if missing and len(missing) == len(raw):
        raise UserError(
            f"None of the {len(raw)} unlabeled cases in {images} is preprocessed for {trainer.configuration_name}. "
            f"Run: nnunet-semisam preprocess -d {int(preprocessed.name[7:10])} -c {trainer.configuration_name} "
            f"-p {trainer.plans_manager.plans_name}"
        )
    if missing:
        trainer.print_to_log_file(
            f"WARNING: {len(missing)} of {len(raw)} unlabeled cases in {images} are not preprocessed and are left out: "
            f"{', '.join(missing[:5])}."
        )


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
