"""How often a step waits for the GPU, and where: stock nnU-Net and ours, with every term of ours at work.

A host that reads a number from the GPU (``float(...)``, ``.cpu()``, a boolean test) waits until all work that it has
queued is done, and queues nothing meanwhile. torch warns at each such place in its mode
``torch.cuda.set_sync_debug_mode("warn")``; here the warnings of a few steps are counted by the innermost line of
nnU-Net or of this package that led to them. Needs a GPU: on a CPU nothing is counted.
"""

from __future__ import annotations

import argparse
import contextlib
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from _measure import describe_machine, table
from _tiny import add_arguments, on_machine, random_batches, world
from step import OURS, STOCK, WITH_UNLABELED, build, step

from nnunet_semisam.io.json_files import write_json

MESSAGE = "synchronizing CUDA operation"
PACKAGES = ("nnunet_semisam", "nnunetv2", "dynamic_network_architectures")
WARMUP = 3


@contextlib.contextmanager
def counted(device: torch.device) -> Iterator[Counter[str]]:
    """Count by place what waits for the GPU while the block runs."""
    places: Counter[str] = Counter()

    def note(message: Warning | str, *where: object, **more: object) -> None:
        if MESSAGE in str(message):
            places[place()] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("warn")
        try:
            yield places
        finally:
            if device.type == "cuda":
                torch.cuda.set_sync_debug_mode("default")


def place() -> str:
    """Return file and line of the innermost caller in nnU-Net or this package, and its text."""
    for frame in reversed(traceback.extract_stack()):
        parts = Path(frame.filename).parts
        for package in PACKAGES:
            if package in parts:
                inside = Path(*parts[len(parts) - 1 - parts[::-1].index(package) :])
                return f"{inside}:{frame.lineno}: {frame.line}"
    return "elsewhere"


def count(work: Callable[[], object], steps: int, device: torch.device) -> dict[str, float]:
    """Return how often each place waits in a step, on average; the most frequent first."""
    with counted(device) as places:
        for _ in range(steps):
            work()
    return {where: number / steps for where, number in places.most_common()}


def report(found: dict[str, dict[str, float]]) -> str:
    """Return a table of all places."""
    rows = [
        [name, f"{number:g}", f"`{where}`"]
        for name, places in found.items()
        for where, number in ({"all": sum(places.values())} | places).items()
    ]
    return table(["step", "a step", "where"], rows)


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, repeats=5)
    args = parser.parse_args(argv)
    found = {}
    with on_machine(args) as device, world(args, device) as here:
        print(describe_machine(device, args.threads))
        print(here.describe() + "\n")
        for name in (STOCK, *OURS):
            trainer = build(name, here)
            batch = random_batches(trainer)[0]
            for measuring in (False, True) if name in WITH_UNLABELED else (False,):
                work = step(trainer, batch, measuring)
                for _ in range(WARMUP):
                    work()
                found[name + (" (measuring)" if measuring else "")] = count(work, args.repeats, device)
        what = here.describe()
    print(report(found))
    if args.json is not None:
        totals = {name: sum(places.values()) for name, places in found.items()}
        write_json(args.json, {"what": what, "counted": device.type == "cuda", "a_step": totals, "places": found})


if __name__ == "__main__":
    main()
