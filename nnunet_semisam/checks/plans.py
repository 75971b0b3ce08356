"""What the plans say of one configuration, and the network that they describe."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nnunet_semisam.checks.findings import cause_of
from nnunet_semisam.errors import UserError, shown
from nnunet_semisam.io.names import case_problem
from nnunet_semisam.labels import Labels

BYTES_PER_WEIGHT = 4
FOR_A_LOOK = 2  # images in the batch that goes through the network: some norms need more than one


@dataclass(frozen=True)
class Plan:
    """One configuration of the plans, as nnU-Net understands it.

    Attributes:
        file: The plans file, for messages.
        manager: nnU-Net's plans.
        configuration: nnU-Net's configuration.
        name: Name of the configuration.
        dataset_json: Content of ``dataset.json``.
        label_manager: nnU-Net's.
        channels: Image channels.
    """

    file: Path
    manager: Any
    configuration: Any
    name: str
    dataset_json: dict[str, Any]
    label_manager: Any
    channels: int

    @property
    def labels(self) -> Labels:
        """Return what the network's output channels mean."""
        return Labels.from_label_manager(self.label_manager)

    @property
    def allowed_labels(self) -> set[int]:
        """Return the values that a preprocessed label map may hold; -1 is nnU-Net's outside of the image."""
        ignore = [self.label_manager.ignore_label] if self.label_manager.has_ignore_label else []
        return {-1, *self.label_manager.all_labels, *ignore}

    def network(self) -> nn.Module:
        """Return the network without any memory for its weights; see :func:`network_of_plans`."""
        return network_of_plans(self)


def read_plan(
    plans: Mapping[str, Any], name: str, dataset_json: Mapping[str, Any], file: Path, dataset_file: Path
) -> Plan:
    """Return a configuration of the plans after checking what nnU-Net takes for granted.

    Args:
        plans: Content of the plans file.
        name: Name of the configuration.
        dataset_json: Content of ``dataset.json``.
        file: The plans file, for messages.
        dataset_file: The ``dataset.json``, for messages.

    Raises:
        UserError: If nnU-Net could not train with them.
    """
    from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    remedy = "Restore the file, or plan the dataset again: nnUNetv2_plan_and_preprocess."
    try:
        manager = PlansManager(dict(plans))
        configuration = manager.get_configuration(name)
        _check_numbers(configuration, file, name, remedy)
    except UserError:
        raise
    except Exception as error:  # whatever a damaged file makes nnU-Net's reader raise, endless inheritance included
        raise UserError(f"{file} cannot be used for {name} ({cause_of(error)}). {remedy}") from error
    remedy = "Correct the file as nnU-Net's dataset format says."
    try:
        label_manager = manager.get_label_manager(dict(dataset_json))
        channels = determine_num_input_channels(manager, configuration, dict(dataset_json))
        ignore = [label_manager.ignore_label] if label_manager.has_ignore_label else []
        values = sorted(int(value) for value in [*label_manager.all_labels, *ignore])
    except Exception as error:
        raise UserError(f"{dataset_file} cannot be used ({cause_of(error)}). {remedy}") from error
    if values != list(range(len(values))):
        raise UserError(f"{dataset_file}: labels must be 0, 1, 2 and so on, got {shown(values)}. {remedy}")
    return Plan(file, manager, configuration, name, dict(dataset_json), label_manager, channels)


def _check_numbers(configuration: Any, file: Path, name: str, remedy: str) -> None:
    where = f"{file}, configuration {name}"
    problem = case_problem(configuration.data_identifier)
    if problem is not None:
        raise UserError(
            f"{where}: data_identifier {shown(configuration.data_identifier)} names no folder: {problem}. {remedy}"
        )
    patch = configuration.patch_size
    if not isinstance(patch, Sequence) or len(patch) not in (2, 3) or not all(_is_size(size) for size in patch):
        raise UserError(f"{where}: patch_size must be two or three whole numbers above 0, got {shown(patch)}. {remedy}")
    if not _is_size(configuration.batch_size):
        found = shown(configuration.batch_size)
        raise UserError(f"{where}: batch_size must be a whole number above 0, got {found}. {remedy}")


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def network_of_plans(plan: Plan) -> nn.Module:
    """Return the network that stock nnU-Net builds, on torch's ``meta`` device: shapes without any memory.

    Raises:
        UserError: If there is no such network.
    """
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    heads = plan.label_manager.num_segmentation_heads
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")
            return nnUNetTrainer.build_network_architecture(
                plan.manager, plan.configuration, plan.channels, heads, enable_deep_supervision=False
            )
    except (Exception, SystemExit) as error:  # plans name any class, and its module may do anything
        raise UserError(
            f"{plan.file}: the network of configuration {plan.name} cannot be built ({cause_of(error)}). Correct "
            '"architecture", or plan the dataset again.'
        ) from error


def check_patch(plan: Plan, network: nn.Module) -> None:
    """Send a patch without values through a network of :func:`network_of_plans`.

    Raises:
        UserError: If its size does not fit the network: the first training step would fail.
    """
    patch = torch.empty((FOR_A_LOOK, plan.channels, *plan.configuration.patch_size), device="meta")
    try:
        with torch.no_grad():
            network(patch)
    except NotImplementedError:  # a layer that needs values: nothing is known
        return
    except Exception as error:
        raise UserError(
            f"{plan.file}: patches of {list(plan.configuration.patch_size)} do not fit the network of configuration "
            f"{plan.name} ({cause_of(error)}). Every size must be divisible by the product of its strides. Correct "
            "patch_size, or plan the dataset again."
        ) from error


def bytes_of(network: nn.Module) -> int:
    """Return the size of a network's weights in a checkpoint."""
    return BYTES_PER_WEIGHT * sum(parameter.numel() for parameter in network.parameters())
