"""What a user can mistake when a training starts, before nnU-Net stumbles over it; and how it is said."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_results
from nnunetv2.training.logging import nnunet_logger

from nnunet_semisam import ranks
from nnunet_semisam.errors import UserError, name_some, shown
from nnunet_semisam.generalists.build import check_generalists
from nnunet_semisam.io.locks import folder_lock
from nnunet_semisam.io.names import case_problem
from nnunet_semisam.methods import SSLMethod
from nnunet_semisam.settings import Settings
from nnunet_semisam.settings import file as settings_file

LOCK_FILE = ".training.lock"
WANDB = "nnUNet_wandb_enabled"  # nnU-Net's own variable
LOST_NODE_SECONDS = 180.0  # more than a lease of NFS 4, 90 s by default
ASK_AGAIN_SECONDS = 5.0


def check_start(plans: Mapping[str, Any], configuration: str, device: torch.device) -> None:
    """Refuse what nnU-Net 2.8.1 answers with a traceback of its own insides.

    Args:
        plans: Content of the plans file.
        configuration: What the user gave.
        device: Where to train.

    Raises:
        UserError: If the plans have no such configuration, it is not preprocessed, a folder is not named, or there is
            no such device or logger.
    """
    say_user_errors_in_a_line()
    known = plans.get("configurations")
    if not isinstance(known, Mapping) or configuration not in known:
        names = name_some(list(known)) if isinstance(known, Mapping) else "none"
        raise UserError(f"The plans have no configuration {shown(configuration)}. They have: {names}.")
    for name, folder in (("nnUNet_preprocessed", nnUNet_preprocessed), ("nnUNet_results", nnUNet_results)):
        if not folder.is_set():
            raise UserError(f"The environment variable {name} is not set. Say: export {name}=/path/to/a/folder")
    check_logger()
    _check_preprocessed(plans, configuration)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("This machine has no CUDA device that torch can use. Train with -device cpu, or elsewhere.")


def check_logger() -> None:
    """Check the variable that switches nnU-Net's logger of Weights & Biases on, and that the library is there.

    Raises:
        UserError: If nnU-Net would end with a traceback.
    """
    value = os.environ.get(WANDB, "0")
    if value not in ("0", "False", "false", "1", "True", "true"):
        raise UserError(f"The environment variable {WANDB} is {shown(value)}. Allowed: 0 or 1.")
    if value in ("1", "True", "true") and nnunet_logger.wandb is None:
        raise UserError(f"{WANDB} is {value}, and wandb is not installed. Say: pip install wandb   or: unset {WANDB}")


def _check_preprocessed(plans: Mapping[str, Any], configuration: str) -> None:
    """Refuse a configuration without preprocessed cases, before nnU-Net makes a folder for its results."""
    known = plans["configurations"]
    content = known[configuration]
    for _ in known:  # as often as one can inherit from another
        if isinstance(content, Mapping) and "data_identifier" not in content:
            content = known.get(content.get("inherits_from"))
    identifier = content.get("data_identifier") if isinstance(content, Mapping) else None
    dataset, name = plans.get("dataset_name"), plans.get("plans_name")
    if not all(isinstance(each, str) and case_problem(each) is None for each in (identifier, dataset, name)):
        return  # nnU-Net's own errors say it
    folder = Path(str(nnUNet_preprocessed)) / dataset / identifier
    if not folder.is_dir():
        number = dataset[len("Dataset") :].partition("_")[0]
        raise UserError(
            f"{configuration} is not preprocessed: there is no {folder}. Run: nnUNetv2_preprocess -d {number} "
            f"-plans_name {name} -c {configuration}"
        )


@contextlib.contextmanager
def alone_in(folder: Path, rank: int) -> Iterator[None]:
    """Keep a second training of the same fold out while this one runs; each would overwrite the other's checkpoints.

    Process 0 holds the folder for all; if it cannot, none of them begins.

    Args:
        folder: Of the fold, in nnUNet_results.
        rank: This process.

    A job that its cluster has started again, after a node was lost, waits for a while: a file server holds the locks
    of a lost node until it misses it.

    Raises:
        UserError: If another training writes there.
    """
    error = None
    with contextlib.ExitStack() as held:
        if rank == 0:
            try:
                _hold(folder, held)
            except Exception as caught:
                error = caught
        ranks.fail_together(error)
        yield


def _hold(folder: Path, held: contextlib.ExitStack) -> None:
    end = time.monotonic() + (LOST_NODE_SECONDS if os.environ.get("SLURM_RESTART_COUNT", "0") != "0" else 0)
    while True:
        with contextlib.ExitStack() as tried:
            if tried.enter_context(folder_lock(folder, wait=False, name=LOCK_FILE)):
                held.enter_context(tried.pop_all())
                return
        if time.monotonic() >= end:
            raise UserError(
                f"Another training writes to {folder}, and two would overwrite each other's checkpoints. Wait for it, "
                "end it, or set nnUNet_results to another folder. If none runs on any machine, a file server keeps "
                f"the lock of one that was lost: delete {folder / LOCK_FILE}."
            )
        time.sleep(ASK_AGAIN_SECONDS)


@contextlib.contextmanager
def user_errors_on_stderr() -> Iterator[None]:
    """Say an error of a process among several in a line, once: torch shows a traceback, in which it is the last."""
    try:
        yield
    except UserError as error:
        if ranks.several() and not getattr(error, "said", False):
            print(f"nnunet-semisam: {error}", file=sys.stderr, flush=True)
            error.said = True
        raise


def refuse_uneven_batch(batch_size: int, batch_dice: bool, processes: int) -> None:
    """Refuse a batch that processes cannot share equally where nnU-Net's Dice is over the whole batch.

    Each process gives the others its patches' part in the Dice, and nnU-Net 2.8.1 takes for granted that all have as
    many: gloo ends at once, and what NCCL makes of it is not defined.

    Args:
        batch_size: Of the plans, for all processes together.
        batch_dice: Whether the plans want the Dice over the batch.
        processes: How many train together.

    Raises:
        UserError: If it is so.
    """
    if batch_dice and batch_size % processes:
        raise UserError(
            f"The batch of {batch_size} patches cannot be shared by {processes} GPUs: the plans want nnU-Net's Dice "
            "over the whole batch (batch_dice), which needs as many patches on each. Take a number of GPUs that "
            f"divides {batch_size} (-num_gpus), or plan another batch size."
        )


def where_it_begins(folder: Path, resumed: str, epoch: int, epochs: int) -> str | None:
    """Return what to say of where a training begins; ``None`` if it is the first one in its folder.

    Args:
        folder: Of the fold, in nnUNet_results.
        resumed: Name of the checkpoint that it goes on from; empty: it begins from the start.
        epoch: The first one.
        epochs: Of the whole training.
    """
    if resumed:
        return f"Resumed from {resumed}: goes on with epoch {epoch} of {epochs}."
    there = sorted(file.name for file in folder.glob("checkpoint_*.pth"))
    if not there:
        return None
    return (
        f"WARNING: This training begins from the start and will overwrite those of an earlier one in {folder}: "
        f"{', '.join(there)}. To go on with that one, end this one now and start it with --c."
    )


def check_generalists_are_of_use(settings: Settings, method: type[SSLMethod], image_channels: int) -> None:
    """Refuse generalists that would label cases which nobody opens, or that cannot see the images.

    Args:
        settings: Of the training.
        method: The method that they name.
        image_channels: Of the data set.

    Raises:
        UserError: If one of both is so.
    """
    if not settings.run.use_sam:
        return
    if not method.uses_unlabeled:
        raise UserError(
            f"The settings ask for generalists (use_sam: true), but the method {settings.run.method!r} opens no "
            "unlabeled case. Set use_sam: false, or another method."
        )
    check_generalists(settings, image_channels)


def refuse_cascade(trainer: str, configuration: str) -> None:
    """Refuse the second stage of a cascade, which would need predictions for unlabeled cases.

    Args:
        trainer: Class name.
        configuration: A configuration with a previous stage.

    Raises:
        UserError: Always.
    """
    raise UserError(
        f"{trainer} cannot train {configuration}: nnU-Net writes the predictions of the previous stage for labeled "
        "cases only. Train 3d_fullres, 3d_lowres or 2d."
    )


def refuse_changed_settings(conflict: Mapping[str, tuple[Any, Any]]) -> None:
    """Refuse to go on with a training under other settings than it began with.

    Args:
        conflict: Name of a setting -> its value in the checkpoint and in the file that the user gave.

    Raises:
        UserError: If there is any.
    """
    if not conflict:
        return
    changed = "; ".join(
        f"{name}: {there!r} in the checkpoint, {here!r} now" for name, (there, here) in conflict.items()
    )
    raise UserError(
        f"The settings changed since this training began ({changed}). Unset {settings_file.VARIABLE} to go on with the "
        "settings of the checkpoint, or start a new training without --c."
    )


def say_user_errors_in_a_line() -> None:
    """Let a :class:`UserError`, or Ctrl-C, that ends ``nnUNetv2_train`` be one line; others keep their traceback."""
    if getattr(sys.excepthook, "says_user_errors", False):
        return
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, UserError):
            print(f"nnunet-semisam: {error}", file=sys.stderr)
        elif isinstance(error, KeyboardInterrupt):
            print(
                "nnunet-semisam: interrupted. What the last checkpoint has is kept: the same command with --c goes on.",
                file=sys.stderr,
            )
        else:
            before(kind, error, trace)

    hook.says_user_errors = True
    sys.excepthook = hook
