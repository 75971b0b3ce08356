"""Patches per second: the unlabeled loader (two views) against nnU-Net's loader, in one process, on the same images.

Both run nnU-Net's own training transforms. With the same probabilities (``strong_intensity_scale`` 1) the difference is
what the loader itself costs; the default scale applies more intensity transforms and costs what they cost. Batches
are interleaved; no background workers.
"""

from __future__ import annotations

import argparse
import contextlib
import io

import numpy as np
import torch
from _measure import Timing, describe_machine, interleave, table, verdict
from _tiny import World, add_arguments, on_machine, world
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_semisam.settings import RunSettings

BOUND = 0.9
STOCK, SAME = "nnUNetDataLoader", "unlabeled, scale 1"
SAME_WITH = f"{SAME}, with pseudo-labels"
DEFAULT_SCALE = RunSettings().strong_intensity_scale


def measure(here: World, repeats: int) -> tuple[dict[str, Timing], int]:
    """Return the time of a batch by loader, and the patches in a batch."""
    stock = here.trainer(nnUNetTrainer)
    with contextlib.redirect_stdout(io.StringIO()):
        labeled, _ = stock.get_dataloaders()
    variants = {STOCK: lambda: next(labeled)}
    for use_sam in (False, True):
        for scale in (1.0, DEFAULT_SCALE):
            name = f"unlabeled, scale {scale:g}" + (", with pseudo-labels" if use_sam else "")
            sam = {} if use_sam else None
            _, loader = here.semi_supervised(f"{use_sam}{scale:g}", sam=sam, strong_intensity_scale=scale)
            variants[name] = lambda loader=loader: next(loader)
    torch.manual_seed(0)
    np.random.seed(0)
    return interleave(variants, repeats, torch.device("cpu"), warmup=2), stock.batch_size


def report(timings: dict[str, Timing], batch_size: int) -> str:
    """Return the table and the verdict."""
    stock = timings[STOCK]
    rows = [
        [
            name,
            f"{batch_size / timing.median:.4g}",
            f"{stock.median / timing.median:.3g} x",
            f"{stock.cpu_median / timing.cpu_median:.3g} x",
        ]
        for name, timing in timings.items()
    ]
    header = ["loader", "patches / s", "ratio, wall time", "ratio, processor time"]
    verdicts = [
        f"{name}: {verdict(stock.median / timings[name].median, BOUND, at_most=False)}" for name in (SAME, SAME_WITH)
    ]
    return "\n".join([table(header, rows), "", "The same transforms.", *verdicts])


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, repeats=40)
    args = parser.parse_args(argv)
    with on_machine(args) as device, world(args, device) as here:
        print(describe_machine(device, args.threads))
        print(here.describe() + "\n")
        print(report(*measure(here, args.repeats)))


if __name__ == "__main__":
    main()
