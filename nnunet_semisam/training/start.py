"""What a user can mistake when a training starts, before nnU-Net stumbles over it; and how it is said."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import torch
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_results

from nnunet_semisam.errors import UserError, name_some, shown


def check_start(plans: Mapping[str, Any], configuration: str, device: torch.device) -> None:
    """Refuse what nnU-Net 2.8.1 answers with a traceback of its own insides.

    Args:
        plans: Content of the plans file.
        configuration: What the user gave.
        device: Where to train.

    Raises:
        UserError: If the plans have no such configuration, a folder is not named, or there is no such device.
    """
    say_user_errors_in_a_line()
    known = plans.get("configurations")
    if not isinstance(known, Mapping) or configuration not in known:
        names = name_some(list(known)) if isinstance(known, Mapping) else "none"
        raise UserError(f"The plans have no configuration {shown(configuration)}. They have: {names}.")
    for name, folder in (("nnUNet_preprocessed", nnUNet_preprocessed), ("nnUNet_results", nnUNet_results)):
        if not folder.is_set():
            raise UserError(f"The environment variable {name} is not set. Say: export {name}=/path/to/a/folder")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("This machine has no CUDA device that torch can use. Train with -device cpu, or elsewhere.")


def say_user_errors_in_a_line() -> None:
    """Let a :class:`UserError` that ends ``nnUNetv2_train`` be one line; all other errors keep their traceback."""
    if getattr(sys.excepthook, "says_user_errors", False):
        return
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, UserError):
            print(f"nnunet-semisam: {error}", file=sys.stderr)
        else:
            before(kind, error, trace)

    hook.says_user_errors = True
    sys.excepthook = hook
