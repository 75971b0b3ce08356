"""An invented, preprocessed dataset in a temporary folder, and real trainers on it.

Shapes in this file: ``C`` image channels, ``Z, Y, X`` the axes of a volume, ``B`` batch, ``*S`` the axes of a patch.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _plans import built_in_plans
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from scipy import ndimage

from nnunet_semisam.data.unlabeled_dataset import unlabeled_folder
from nnunet_semisam.settings import Settings
from nnunet_semisam.settings.file import VARIABLE as SETTINGS_VARIABLE
from nnunet_semisam.training.trainer import SemiSupervisedTrainer

CLASSES = 3
# The gate is open and every term has its full weight: the most work that a step can be.
ALWAYS_ON = {"method": "mean_teacher", "mean_teacher": {"start": 0.0, "rampup": 0.0}, "gate": {"dice": 0.0}}


def add_arguments(parser: argparse.ArgumentParser, repeats: int) -> None:
    """Add the options that all benchmarks of a trainer share."""
    parser.add_argument("--plans", type=Path, help="an nnU-Net plans file; default: a small built-in network")
    parser.add_argument("--full", action="store_true", help="the built-in network in nnU-Net's own size")
    parser.add_argument("--configuration", default="2d", help="2d, 3d_fullres, or another one of the plans")
    parser.add_argument("--patch-size", type=int, nargs="+", help="instead of the plans'")
    parser.add_argument("--batch-size", type=int, help="instead of the plans'")
    parser.add_argument("--features", type=int, nargs="+", help="features per stage of the built-in network")
    parser.add_argument("--shape", type=int, nargs=3, help="size of the invented cases; default: the plans' median")
    parser.add_argument("--cases", type=int, default=3, help="labeled and as many unlabeled cases")
    parser.add_argument("--repeats", type=int, default=repeats, help="timed rounds")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    add_machine_arguments(parser)


def add_machine_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options about where to run."""
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch on the CPU")


@contextlib.contextmanager
def on_machine(args: argparse.Namespace) -> Iterator[torch.device]:
    """Use the wanted device and number of threads, with fixed seeds, until the block ends."""
    before = torch.get_num_threads()
    torch.set_num_threads(args.threads)
    torch.backends.cudnn.benchmark = True  # as nnUNetv2_train does
    # A training sees one batch size, and its graph is static; here several share the code of one network.
    torch._dynamo.config.automatic_dynamic_shapes = False
    torch.manual_seed(0)
    np.random.seed(0)
    try:
        yield torch.device(args.device)
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class World:
    """A dataset in a temporary folder, as nnU-Net's trainers find it.

    Attributes:
        folder: ``$nnUNet_preprocessed/DATASET``.
        plans: The plans.
        configuration: Which of the plans' configurations.
        shape: Size of every case, ``Z, Y, X``.
        device: Where trainers run.
    """

    folder: Path
    plans: dict
    configuration: str
    shape: tuple[int, int, int]
    device: torch.device

    def describe(self) -> str:
        """Return one line about what is measured."""
        settings = self.plans["configurations"][self.configuration]
        features = settings["architecture"]["arch_kwargs"]["features_per_stage"]
        return (
            f"{self.plans['plans_name']}, {self.configuration}: patch {settings['patch_size']}, batch "
            f"{settings['batch_size']}, features {features}; invented cases {list(self.shape)}"
        )

    def trainer(self, base: type[nnUNetTrainer], settings: Settings | None = None, name: str = "") -> nnUNetTrainer:
        """Return an initialized trainer, quietly.

        Args:
            base: nnU-Net's trainer or ours.
            settings: For ours.
            name: Makes the output folder of this trainer its own.
        """
        attributes = {} if settings is None else {"settings": settings}
        dataset_json = json.loads((self.folder / "dataset.json").read_text())
        plans = copy.deepcopy(self.plans) | {"continue_training": False}
        cls = type(f"nnUNetTrainer{name}", (base,), attributes)
        with contextlib.redirect_stdout(io.StringIO()):
            trainer = cls(plans, self.configuration, 0, dataset_json, self.device)
            torch.manual_seed(0)
            trainer.initialize()
        return trainer

    def semi_supervised(
        self, name: str, sam: dict[str, Any] | None = None, rounds: bool = True, **settings: Any
    ) -> tuple[SemiSupervisedTrainer, Any]:
        """Return a semi-supervised trainer with every term at work, and its loader of unlabeled patches.

        Args:
            name: As in :meth:`trainer`.
            sam: The block ``sam``.
            rounds: Whether a complete round of pseudo-labels is there then.
            settings: Other settings.
        """
        if sam is not None:
            settings["use_sam"] = True
            settings["sam"] = {"models": ["nano"], "start": 0.0, **sam}
            for model in settings["sam"]["models"]:
                settings[model] = {"checkpoint": self.sam_checkpoint(model)}
        trainer = self.trainer(SemiSupervisedTrainer, Settings.of(**{**ALWAYS_ON, **settings}), name)
        with contextlib.redirect_stdout(io.StringIO()):
            loader = trainer._build_unlabeled_loader()
            if sam is not None and rounds:
                self._write_round(trainer)
        return trainer, loader

    def sam_checkpoint(self, model: str) -> str | None:
        """Return weights for a SAM: ``None`` if they are at hand, or a file of random ones."""
        from nnunet_semisam.errors import UserError
        from nnunet_semisam.sam.checkpoints import find_weights

        with contextlib.suppress(UserError):
            find_weights(model, None, fetch=False)
            return None
        path = self.folder.parent / f"random_{model}.pth"
        if not path.is_file():
            torch.save(random_sam(model).state_dict(), path)
            print(f"No weights of {model} at hand: random ones are used, which are as fast.")
        return str(path)

    def label_map(self, case: str) -> np.ndarray:
        """Return the label map of a case, labeled or not, ``(Z, Y, X)``, int16."""
        return invent(self.shape, 1, int(case[-3:]))[1][0]

    def _write_round(self, trainer: SemiSupervisedTrainer) -> None:
        session = trainer.pseudo_labels
        session.store.begin(0)
        for case in session.pool.files:
            label = self.label_map(case)
            session.store.write(0, case, label, np.ones(label.shape, np.float32))
        session.store.commit(0, {})
        session._use(0)


def random_sam(model: str) -> torch.nn.Module:
    """Return a SAM with random weights."""
    if model == "nano":
        from nnunet_semisam.sam.nano.model import build_nano_sam

        return build_nano_sam()
    from segment_anything import sam_model_registry

    return sam_model_registry[model]()


@contextlib.contextmanager
def world(args: argparse.Namespace, device: torch.device) -> Iterator[World]:
    """Write the dataset; set nnU-Net's variables while it is there."""
    if args.plans:
        plans = json.loads(args.plans.read_text())
    else:
        plans = built_in_plans(args.configuration, args.features, args.full)
    settings = plans["configurations"].get(args.configuration, {})
    if "patch_size" not in settings or settings.get("previous_stage"):
        usable = ", ".join(name for name, c in plans["configurations"].items() if "patch_size" in c)
        raise SystemExit(f"{args.configuration!r} cannot be measured. These plans have: {usable}.")
    settings["patch_size"] = args.patch_size or settings["patch_size"]
    settings["batch_size"] = args.batch_size or settings["batch_size"]
    median = [round(size) for size in settings["median_image_size_in_voxels"]]
    shape = tuple(args.shape or (median if len(median) == 3 else [9, *median]))
    with tempfile.TemporaryDirectory(prefix="nnunet-semisam-benchmark-") as root, _environment(Path(root)):
        folder = Path(root) / "preprocessed" / plans["dataset_name"]
        _write_dataset(folder, settings, shape, args.cases)
        yield World(folder, plans, args.configuration, shape, device)


@contextlib.contextmanager
def _environment(root: Path) -> Iterator[None]:
    names = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "nnUNet_n_proc_DA", SETTINGS_VARIABLE)
    before = {name: os.environ.pop(name, None) for name in names}
    for name in names[:3]:
        (root / name.removeprefix("nnUNet_")).mkdir()
        os.environ[name] = str(root / name.removeprefix("nnUNet_"))
    os.environ["nnUNet_n_proc_DA"] = "0"  # loaders run in this process
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ.update({name: value for name, value in before.items() if value is not None})


def _write_dataset(folder: Path, settings: dict, shape: tuple[int, ...], cases: int) -> None:
    """Write labeled cases and, under other names, the same images as unlabeled ones: loaders read equal data."""
    channels = len(settings["normalization_schemes"])
    stock = folder / settings["data_identifier"]
    unlabeled = unlabeled_folder(folder, settings["data_identifier"])
    for path in (stock, unlabeled):
        path.mkdir(parents=True)
    for i in range(cases):
        image, label = invent(shape, channels, i)
        places = {k: np.argwhere(label == k) for k in range(1, CLASSES + 1)}
        kept = {k: v[:: max(1, len(v) // 10_000)] for k, v in places.items()}
        layout = _blocks(image, "", settings["patch_size"]) | _blocks(label, "_seg", settings["patch_size"])
        for name in (stock / f"labeled_{i:03d}", unlabeled / f"unlabeled_{i:03d}"):
            nnUNetDatasetBlosc2.save_case(image, label, {"class_locations": kept}, str(name), **layout)
    for extra in (*unlabeled.glob("*_seg.b2nd"), *unlabeled.glob("*.pkl")):
        extra.unlink()
    names = [f"labeled_{i:03d}" for i in range(cases)]
    labels = {"background": 0} | {f"class_{k}": k for k in range(1, CLASSES + 1)}
    dataset_json = {
        "channel_names": {str(c): f"channel_{c}" for c in range(channels)},
        "labels": labels,
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    for name, content in (("dataset", dataset_json), ("splits_final", [{"train": names, "val": names[:1]}])):
        (folder / f"{name}.json").write_text(json.dumps(content))


def _blocks(array: np.ndarray, suffix: str, patch_size: list[int]) -> dict[str, tuple[int, ...]]:
    blocks, chunks = comp_blosc2_params(array.shape, tuple(patch_size), array.itemsize)
    return {f"blocks{suffix}": blocks, f"chunks{suffix}": chunks}


def invent(shape: tuple[int, ...], channels: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an image ``(C, Z, Y, X)``, float32, normalised, and its label map ``(1, Z, Y, X)``, int16.

    A ring (2) around a disc (3) and a disc beside it (1), in all slices but the last; texture and noise.
    """
    rng = np.random.default_rng(seed)
    z, y, x = np.indices(shape, dtype=np.float32)
    radius = min(shape[1:]) * rng.uniform(0.16, 0.2)
    center = [shape[1] * rng.uniform(0.45, 0.55), shape[2] * rng.uniform(0.5, 0.6)]
    label = np.zeros(shape, np.int16)
    inside = z < max(1, shape[0] - 1)
    label[inside & (np.hypot(y - center[0], x - center[1] + 1.5 * radius) < radius)] = 1
    distance = np.hypot(y - center[0], x - center[1])
    label[inside & (distance < radius)] = 2
    label[inside & (distance < 0.6 * radius)] = 3
    texture = ndimage.gaussian_filter(rng.standard_normal(shape), (0, 4, 4))
    image = np.array([0.0, 0.9, 0.4, 1.0])[label] + 0.5 * texture / texture.std()
    volumes = [image + 0.1 * rng.standard_normal(shape) for _ in range(channels)]
    return np.stack([(v - v.mean()) / v.std() for v in volumes]).astype(np.float32), label[None]


def random_batches(trainer: nnUNetTrainer) -> tuple[dict, dict]:
    """Return a labeled and an unlabeled batch of random patches, in the form in which the loaders give them."""
    generator = torch.Generator().manual_seed(0)
    manager, size = trainer.configuration_manager, (trainer.batch_size, 1, *trainer.configuration_manager.patch_size)
    image = (size[0], trainer.num_input_channels, *size[2:])
    weak, strong, data = (torch.randn(image, generator=generator) for _ in range(3))
    label = torch.randint(0, CLASSES + 1, size, generator=generator, dtype=torch.int16)
    scales = trainer._get_deep_supervision_scales() or [[1.0] * (len(size) - 2)]
    levels = [tuple(round(s * f) for s, f in zip(manager.patch_size, scale, strict=True)) for scale in scales]
    target = [torch.nn.functional.interpolate(label.float(), level, mode="nearest").to(torch.int16) for level in levels]
    unlabeled = {
        "weak": weak,
        "strong": strong,
        "pseudo_label": label,
        "pseudo_confidence": torch.rand(size),
        "pseudo_weight": torch.ones(size[0]),
    }
    labeled = {"data": data, "target": target}
    if trainer.device.type == "cuda":  # as the loaders do for a GPU
        labeled, unlabeled = _pinned(labeled), _pinned(unlabeled)
    return labeled, unlabeled


def _pinned(batch: dict) -> dict:
    return {
        name: [level.pin_memory() for level in value] if isinstance(value, list) else value.pin_memory()
        for name, value in batch.items()
    }
