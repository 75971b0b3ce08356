"""A function in a process of its own that begins with the large libraries loaded, which takes seconds otherwise."""

from __future__ import annotations

import importlib
import importlib.metadata
import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import threads_for_pools

# Not nnU-Net and not what is tested: they read variables of the environment when they are loaded.
LIBRARIES = ["torch", "SimpleITK", "scipy.ndimage", "segment_anything", "skimage", "blosc2", "matplotlib.pyplot"]


def run(function: Callable[..., object], *words: object, environment: Mapping[str, str], log: Path) -> int:
    """Call a function of a module in a process that is forked from one with the libraries and nothing else.

    Args:
        function: What to call; its module must be importable by name.
        words: Its arguments, pickled.
        environment: All of the variables of the process.
        log: File that takes its output.

    Returns:
        The exit status; -9 if it was killed with SIGKILL.
    """
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(LIBRARIES)
    process = forks.Process(
        target=_call, args=(dict(environment), str(log), function.__module__, function.__name__, words)
    )
    process.start()
    process.join()
    return process.exitcode


def run_command(words: Sequence[str], environment: Mapping[str, str], log: Path) -> int:
    """Run an installed command (``nnUNetv2_preprocess -d 3``) so, with threads for pools; return its exit status."""
    return run(_run_command, list(words), environment=environment, log=log)


def _run_command(words: list[str]) -> None:
    threads_for_pools.install()
    (command,) = importlib.metadata.entry_points(group="console_scripts", name=words[0])
    sys.argv = words
    sys.exit(command.load()())


def _call(environment: dict[str, str], log: str, module: str, name: str, words: tuple[object, ...]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    sys.stdout, sys.stderr = (os.fdopen(os.dup(output), "w", buffering=1) for _ in range(2))
    import torch

    torch.set_num_threads(1)  # it was loaded before the variables of this process were set
    getattr(importlib.import_module(module), name)(*words)
