"""A trained model that nobody trained: random weights in a model folder as nnUNetv2_train leaves it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import tiny_nnunet
import torch

TRAINER = "nnUNetTrainerMeanTeacher"
MODEL = f"{TRAINER}__{tiny_nnunet.PLANS}__2d"


def network_of(folder: Path, seed: int) -> dict[str, torch.Tensor]:
    """Return random weights of the network of a planned dataset."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans = PlansManager(json.loads((folder / "plans.json").read_text()))
    dataset_json = json.loads((folder / "dataset.json").read_text())
    heads = plans.get_label_manager(dataset_json).num_segmentation_heads
    torch.manual_seed(seed)
    network = nnUNetTrainer.build_network_architecture(
        plans, plans.get_configuration("2d"), len(dataset_json["channel_names"]), heads, enable_deep_supervision=True
    )
    return network.state_dict()


def write_model(root: Path, fold: int = 0, seed: int = 1, student_seed: int | None = 2) -> Path:
    """Write a fold of a model with a student of its own, and return the model's folder."""
    preprocessed = root / "preprocessed" / tiny_nnunet.DATASET
    folder = root / "results" / tiny_nnunet.DATASET / MODEL
    (folder / f"fold_{fold}").mkdir(parents=True)
    shutil.copyfile(preprocessed / f"{tiny_nnunet.PLANS}.json", folder / "plans.json")
    shutil.copyfile(preprocessed / "dataset.json", folder / "dataset.json")
    weights = network_of(folder, seed)
    student = weights if student_seed is None else network_of(folder, student_seed)
    checkpoint = {
        "network_weights": weights,
        "init_args": {"configuration": "2d", "fold": fold},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1),
        "semisam": {"student": student, "method": {}, "ensemble_members": []},
    }
    torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder
