"""A trained model that predicts raw images, network by network and view by view.

Shapes in this file: ``C`` image channels, ``K`` output channels of the network, ``Z, Y, X`` the axes of nnU-Net's
preprocessed arrays.
"""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor

from nnunet_semisam.data.dataset_json import channel_names, read_dataset_json
from nnunet_semisam.data.image_headers import check_image_file, reason
from nnunet_semisam.errors import UserError, name_some, shown
from nnunet_semisam.io.hashes import sha256_of
from nnunet_semisam.io.json_files import read_object
from nnunet_semisam.labels import Labels
from nnunet_semisam.model_export import check_weights, ensemble_weights, find_folds, read_checkpoint

REMEDY = "Take a model folder as nnUNetv2_train wrote it."


@dataclass(frozen=True)
class ModelPlace:
    """Which model, by its files.

    Attributes:
        folder: ``$nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION``.
        folds: Which folds; empty: all that are there.
        checkpoint: File name of the checkpoint.
    """

    folder: Path
    folds: tuple[str, ...] = ()
    checkpoint: str = "checkpoint_final.pth"

    def files(self) -> list[Path]:
        """Return the checkpoint of each fold.

        Raises:
            UserError: If the model folder is not there or has no such checkpoint.
        """
        folds = find_folds(self.folder, self.folds, self.checkpoint)
        files = [self.folder / f"fold_{fold}" / self.checkpoint for fold in folds]
        missing = [str(file) for file in files if not file.is_file()]
        if missing:
            raise UserError(f"There is no checkpoint {name_some(missing)}. Train this fold first, or name another.")
        return files

    def sha256(self) -> str:
        """Return one text that names the weights: the SHA-256 of each checkpoint."""
        return " ".join(sha256_of(file) for file in self.files())


def _mirror_axes(checkpoint: Mapping[str, Any], num_axes: int, file: Path) -> tuple[int, ...] | None:
    axes = checkpoint.get("inference_allowed_mirroring_axes")
    if axes is None:
        return None
    known = range(num_axes)
    is_list = isinstance(axes, list | tuple)
    if not is_list or len({*map(str, axes)}) < len(axes) or any(axis not in known for axis in axes):
        raise UserError(
            f"{file}: inference_allowed_mirroring_axes must be some of {', '.join(map(str, known))}, each once, got "
            f"{shown(axes)}. {REMEDY}"
        )
    return tuple(int(axis) for axis in axes)


@dataclass(frozen=True)
class RawCase:
    """A raw image after nnU-Net's preprocessing.

    Attributes:
        image: ``(C, Z, Y, X)``, float32.
        properties: What nnU-Net's reader and preprocessor said about it.
    """

    image: Tensor
    properties: dict[str, Any]


class RawImagePredictor:
    """Predicts raw images as ``nnUNetv2_predict`` does, and tells what each network says of each view.

    Args:
        place: The model.
        device: ``cuda``, ``cpu`` or ``mps``.
        mirroring: Whether to predict with mirroring; a network that was trained without never is.

    Attributes:
        predictor: nnU-Net's own.
        labels: What the networks' output channels mean.
        mirror_axes: Along which images are mirrored; none without mirroring.
        network: With the deployed weights of the first fold, in evaluation mode.

    Raises:
        UserError: If the model is missing, damaged, or needs a network that stock nnU-Net does not build.
    """

    def __init__(self, place: ModelPlace, device: str, mirroring: bool = True) -> None:
        files = place.files()
        checkpoints = [read_checkpoint(file) for file in files]
        for file, checkpoint in zip(files, checkpoints, strict=True):
            check_weights(place.folder, checkpoint, file)
        self._networks = [_networks_of(*pair) for pair in zip(checkpoints, files, strict=True)]
        plans = PlansManager(read_object(place.folder / "plans.json", REMEDY))
        dataset_json = read_dataset_json(place.folder / "dataset.json")
        configuration = plans.get_configuration(checkpoints[0]["init_args"]["configuration"])
        label_manager = plans.get_label_manager(dataset_json)
        channels = determine_num_input_channels(plans, configuration, dataset_json)
        network = nnUNetTrainer.build_network_architecture(
            plans, configuration, channels, label_manager.num_segmentation_heads, enable_deep_supervision=False
        )
        mirror_axes = _mirror_axes(checkpoints[0], len(configuration.patch_size), files[0])
        with contextlib.redirect_stdout(io.StringIO()):  # on a CPU it prints that it is none of a GPU
            self.predictor = nnUNetPredictor(use_mirroring=mirroring, device=torch.device(device), allow_tqdm=False)
        deployed = [networks["deployed"] for networks in self._networks]
        network.load_state_dict(deployed[0])  # nnU-Net does so only when it predicts
        network.eval()
        self.network = network
        self.predictor.manual_initialization(
            network, plans, configuration, deployed, dataset_json, checkpoints[0]["trainer_name"], mirror_axes
        )
        self.mirror_axes = tuple(mirror_axes or ()) if mirroring else ()
        self.labels = Labels.from_label_manager(label_manager)
        self.dataset_json, self.plans, self.configuration = dataset_json, plans, configuration

    def read(self, images: Sequence[str]) -> RawCase:
        """Read and preprocess a raw image: one file per channel; no label is opened.

        Raises:
            UserError: If it cannot be read or preprocessed.
        """
        for image in images:
            check_image_file(image)
        preprocessor = self.configuration.preprocessor_class(verbose=False)
        try:
            data, _, properties = preprocessor.run_case(
                list(images), None, self.plans, self.configuration, self.dataset_json
            )
        except Exception as error:  # every reader raises its own kinds
            raise UserError(f"{', '.join(images)} cannot be read: {reason(error)}. Fix or remove it.") from error
        channels = len(channel_names(self.dataset_json))
        if len(data) != channels:
            raise UserError(
                f"{', '.join(images)} hold {len(data)} channels, and the model was trained with {channels}. "
                "Add or remove channels."
            )
        return RawCase(torch.from_numpy(np.ascontiguousarray(data)), properties)

    def logits(self, case: RawCase, mirroring: bool = True) -> Tensor:
        """Return what ``nnUNetv2_predict`` makes its segmentation of: ``(K, Z, Y, X)``, on the CPU.

        Args:
            case: The image.
            mirroring: False: of the image as it is, even if the model predicts with mirroring.
        """
        self._use([networks["deployed"] for networks in self._networks], mirroring and bool(self.mirror_axes))
        return self.predictor.predict_logits_from_preprocessed_data(case.image).float().cpu()

    def views(self, case: RawCase, everything: bool = True) -> Iterator[tuple[str, Tensor]]:
        """Yield what each network says of each mirrored image, brought back: name, and probabilities on the CPU.

        Args:
            case: The image.
            everything: Whether students and further networks are asked beside the deployed ones, and all mirrored
                images; otherwise the deployed networks see the image as it is, and mirrored along all axes at once.

        Yields:
            ``network 0 deployed`` or ``network 0 student, mirrored 0 1``, and ``(K, Z, Y, X)`` in [0, 1].
        """
        flips = [axes for count in range(len(self.mirror_axes) + 1) for axes in self._combinations(count)]
        flips = flips if everything or len(flips) < 2 else [flips[0], flips[-1]]
        for index, networks in enumerate(self._networks):
            for name, weights in networks.items():
                if name != "deployed" and not everything:
                    continue
                self._use([weights], False)
                for axes in flips:
                    dims = tuple(axis + case.image.ndim - self._spatial_dims() for axis in axes)
                    flipped = case.image.flip(dims) if dims else case.image
                    logits = self.predictor.predict_logits_from_preprocessed_data(flipped).float().cpu()
                    probs = torch.as_tensor(self.predictor.label_manager.apply_inference_nonlin(logits))
                    mirrored = f", mirrored {' '.join(map(str, axes))}" if axes else ""
                    yield f"network {index} {name}{mirrored}", probs.flip(dims) if dims else probs

    def _combinations(self, count: int) -> Iterator[tuple[int, ...]]:
        return itertools.combinations(self.mirror_axes, count)

    def _spatial_dims(self) -> int:
        """Return 2 or 3: nnU-Net counts the axes of mirroring among those of a patch."""
        return len(self.configuration.patch_size)

    def _use(self, weights: list[dict[str, Any]], mirroring: bool) -> None:
        self.predictor.list_of_parameters, self.predictor.use_mirroring = weights, mirroring


def _networks_of(checkpoint: dict[str, Any], file: Path) -> dict[str, dict[str, Any]]:
    """Return name -> weights: what is deployed, further networks of an ensemble, and the student if it is another."""
    deployed = checkpoint["network_weights"]
    found = {"deployed": deployed, **ensemble_weights(checkpoint, file)}
    student = (checkpoint.get("semisam") or {}).get("student")
    if isinstance(student, dict) and _fits(student, deployed) and not _equal(student, deployed):
        found["student"] = student
    return found


def _fits(weights: dict[str, Any], others: dict[str, Any]) -> bool:
    return weights.keys() == others.keys() and all(weights[name].shape == others[name].shape for name in others)


def _equal(weights: dict[str, Any], others: dict[str, Any]) -> bool:
    return all(torch.equal(weights[name], others[name]) for name in others)
