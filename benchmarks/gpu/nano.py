"""Pretrain the nano SAM with ``nnunet-semisam sam pretrain``, and tell how fast and how good; resumes."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import torch

from nnunet_semisam.cli import main as cli
from nnunet_semisam.io.csv_files import read_table
from nnunet_semisam.io.json_files import write_json
from nnunet_semisam.sam.nano.pretrain import CHECKPOINT, LOG


def steps_done(folder: Path) -> int:
    """Return how many steps the checkpoint has."""
    path = folder / CHECKPOINT
    return torch.load(path, map_location="cpu", weights_only=True)["step"] if path.is_file() else 0


def main(argv: list[str] | None = None) -> None:
    """Train to the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args(argv)
    before, start = steps_done(args.out), time.perf_counter()
    workers = 0 if args.device == "cpu" else max(1, (os.cpu_count() or 2) - 2)
    words = ["sam", "pretrain", "--out", str(args.out), "--steps", str(args.steps), "--device", args.device]
    status = cli([*words, "--workers", str(workers)])
    if status:
        raise SystemExit(status)
    seconds = time.perf_counter() - start
    done = args.steps - before
    figures = {
        "steps": args.steps,
        "workers": workers,
        "steps_of_this_start": done,
        "seconds_of_this_start": seconds,
        "seconds_per_step": seconds / done if done else None,
        "log": list(read_table(args.out / LOG, ["step"], "")),
    }
    write_json(args.json, figures)


if __name__ == "__main__":
    main()
