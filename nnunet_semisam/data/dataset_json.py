"""nnU-Net's ``dataset.json``: what this package needs of it, checked in one place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_semisam.errors import UserError, shown
from nnunet_semisam.io.json_files import read_object
from nnunet_semisam.io.names import check_text_name

REMEDY = "Correct it."
FILE_ENDING = re.compile(r"(\.[A-Za-z0-9_-]+)+")
MOST_ENDING = 20

IGNORE = "ignore"  # nnU-Net's name of the label


def ignore_label(dataset_json: Mapping[str, Any]) -> int:
    """Return the value of the ignore label: that of the dataset, or else the next number after all labels.

    Example:
        >>> ignore_label({"labels": {"background": 0, "whole": [1, 2], "core": 2}})
        3
    """
    labels = dataset_json["labels"]
    if IGNORE in labels:
        return int(labels[IGNORE])
    values = [value for entry in labels.values() for value in (entry if isinstance(entry, list) else [entry])]
    return 1 + max(int(value) for value in values)


def read_dataset_json(path: str | Path) -> dict[str, Any]:
    """Return the content of a ``dataset.json``.

    Raises:
        UserError: If it is missing, is no json, or an entry is not as nnU-Net needs it.
    """
    content = read_object(path, "It must be nnU-Net's, with a file_ending. Correct it.")
    check_dataset_json(content, path)
    return content


def check_dataset_json(content: Mapping[str, Any], where: str | Path) -> None:
    """Refuse a ``dataset.json`` without file ending, channels or with labels that are not as nnU-Net needs them.

    Args:
        content: Its content.
        where: The file, for the error.

    Raises:
        UserError: If something is missing or malformed.
    """
    file_ending(content, where)
    channel_names(content, where)
    _check_labels(content, where)


def file_ending(content: Mapping[str, Any], where: str | Path = "dataset.json") -> str:
    """Return the ending of all image and label files.

    Raises:
        UserError: If there is none, or it is more than the ending of a file's name.
    """
    ending = content.get("file_ending")
    if not isinstance(ending, str) or len(ending) > MOST_ENDING or not FILE_ENDING.fullmatch(ending):
        raise UserError(f'{where}: file_ending must be a text like ".nii.gz", got {shown(ending)}. {REMEDY}')
    return ending


def channel_names(content: Mapping[str, Any], where: str | Path = "dataset.json") -> dict[str, str]:
    """Return number of the channel -> what its normalisation depends on; older datasets call this ``modality``.

    Raises:
        UserError: If there is none, or the channels are not numbered from 0 on.
    """
    channels = content.get("channel_names", content.get("modality"))
    numbered = isinstance(channels, dict) and sorted(channels) == sorted(map(str, range(len(channels))))
    if not numbered or not channels or not all(isinstance(name, str) for name in channels.values()):
        raise UserError(
            f'{where}: channel_names must be like {{"0": "T1", "1": "T2"}}, got {shown(channels)}. {REMEDY}'
        )
    for name in channels.values():
        check_text_name(name, "channel", str(where), REMEDY)
    return dict(channels)


def _check_labels(content: Mapping[str, Any], where: str | Path) -> None:
    labels = content.get("labels")
    if labels is None:
        return  # nnU-Net's planner asks for them
    if not isinstance(labels, dict) or not all(_is_label(value) for value in labels.values()):
        raise UserError(
            f'{where}: labels must be like {{"background": 0, "tumor": 1}}, or lists of numbers for regions, got '
            f"{shown(labels)}. {REMEDY}"
        )
    for name in labels:
        check_text_name(name, "label", str(where), REMEDY)


def _is_label(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(_is_label(each) and not isinstance(each, list) for each in value)
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**15
