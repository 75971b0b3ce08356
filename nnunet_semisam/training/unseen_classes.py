"""Classes that no labeled training case shows: whoever waits for the network to know them waits for ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nnunet_semisam.data.labeled_files import reading_labeled_case
from nnunet_semisam.errors import UserError, name_some
from nnunet_semisam.gate.class_gate import ClassGate


def leave_out_unseen_classes(
    dataset: Any, fold: int | str, label_manager: Any, gate: ClassGate, log: Callable[[str], Any]
) -> None:
    """Let the gate wait no longer for classes that no labeled training case shows, and say so.

    Args:
        dataset: nnU-Net's preprocessed dataset, opened with labeled training cases only.
        fold: For messages.
        label_manager: nnU-Net's.
        gate: Decides which classes are active.
        log: Receives a line if there are such classes.

    Raises:
        UserError: If no class is shown at all, or a case cannot be read.
    """
    unseen = channels_without_voxels(dataset, label_manager)
    if not unseen:
        return
    labels = gate.labels
    names = name_some([labels.names[f] for f in unseen])
    if len(unseen) == labels.channels:
        raise UserError(
            f"None of the {len(dataset.identifiers)} labeled training cases of fold {fold} shows any class ({names}): "
            "there is nothing to learn. Check labelsTr, or take other cases into the fold."
        )
    log(
        f"WARNING: No labeled training case of fold {fold} shows {names}: what is not known of it is left to the "
        "supervised loss, and unlabeled terms and pseudo-labels do not wait for it."
    )
    gate.leave_out([f + labels.first_foreground for f in unseen])


def channels_without_voxels(dataset: Any, label_manager: Any) -> list[int]:
    """Return the foreground channels of which no case has a voxel, as nnU-Net's preprocessing counted them.

    Args:
        dataset: nnU-Net's preprocessed dataset, opened with labeled training cases only.
        label_manager: nnU-Net's.

    Raises:
        UserError: If a case cannot be read.
    """
    classes = label_manager.foreground_regions if label_manager.has_regions else label_manager.foreground_labels
    unseen = {tuple(each) if isinstance(each, list) else each: channel for channel, each in enumerate(classes)}
    for case in dataset.identifiers:
        if not unseen:
            break
        with reading_labeled_case(case):
            locations = dataset.load_case(case)[3]["class_locations"]
            unseen = {each: channel for each, channel in unseen.items() if len(locations.get(each, ())) == 0}
    return sorted(unseen.values())
