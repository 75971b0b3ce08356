"""What grows with the number of unlabeled cases: start-up, a batch, a step, memory, a round of pseudo-labels, a resume.

A pool of N cases is a handful of invented ones, under N names (hard links). A step must cost the same for every N;
start-up, resume and what a round does for cases that it does not refresh may grow with N, but not faster. Every N is
measured in a process of its own; of seconds, the processor time counts, which other programs change little.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from _measure import describe_machine, resident_bytes, table
from _tiny import World, add_arguments, on_machine, random_batches, world

from nnunet_semisam.data.geometry import Geometry, write_geometry
from nnunet_semisam.data.unlabeled_dataset import SUFFIX, unlabeled_folder
from nnunet_semisam.generalists.embedding_cache import EmbeddingCache
from nnunet_semisam.io.json_files import write_json
from nnunet_semisam.sam.base import Embedding
from nnunet_semisam.training.trainer import SemiSupervisedTrainer

SIZES = (50, 500, 5000)
TINY = ["--patch-size", "32", "32", "--batch-size", "2", "--features", "4", "8", "8", "--shape", "3", "40", "40"]
REFRESHED = 2  # cases of the round whose cost beside the predictions is looked at
FLAT, LINEAR = "flat", "linear"
EXPECTED = {
    "start-up, s": LINEAR,
    "batch, ms": FLAT,
    "step, ms": FLAT,
    "memory after start-up, MiB": FLAT,
    "memory after N patches, MiB": FLAT,
    "pseudo-label written, ms a case": FLAT,
    "embedding kept, ms a case": FLAT,
    "round of 2 cases, s": LINEAR,
    "resume, s": LINEAR,
}
SLACK = 1.3  # of a ratio, for noise


def seconds(work: Callable[[], object]) -> float:
    """Return the processor time of ``work``."""
    start = time.process_time()
    work()
    return time.process_time() - start


def median_ms(work: Callable[[], object], repeats: int) -> float:
    """Return the median processor time of ``work`` in milliseconds, after one more."""
    work()
    return 1000 * statistics.median(seconds(work) for _ in range(repeats))


def enlarge(here: World, count: int) -> None:
    """Give the unlabeled cases ``count`` names, and a geometry each."""
    settings = here.plans["configurations"][here.configuration]
    folder = unlabeled_folder(here.folder, settings["data_identifier"])
    originals = sorted(folder.glob(f"*{SUFFIX}"))
    geometry = Geometry((10.0, 1.5, 1.5), (0.0,) * 3, ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), here.shape)
    for i in range(count):
        name = f"copy_{i:05d}_{i % len(originals):03d}"  # its last digits choose the label map
        os.link(originals[i % len(originals)], folder / f"{name}{SUFFIX}")
        write_geometry(here.folder, name, geometry)
    for original in originals:
        original.unlink()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the training log away."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def write_round(trainer: SemiSupervisedTrainer, here: World) -> float:
    """Write a round with a pseudo-label of every case; return milliseconds per case."""
    store, cases = trainer.pseudo_labels.store, list(trainer.pseudo_labels.pool.files)
    labels = {number: here.label_map(f"{number:03d}") for number in {int(case[-3:]) for case in cases}}
    store.begin(0)

    def write() -> None:
        for case in cases:
            label = labels[int(case[-3:])]
            store.write(0, case, label, np.ones(label.shape, np.float32))

    took = seconds(write)
    store.commit(0, {})
    trainer.pseudo_labels._use(0)
    return 1000 * took / len(cases)


def keep_embeddings(folder: Path, cases: list[str]) -> float:
    """Keep an embedding of every case; return milliseconds per case."""
    kept = EmbeddingCache(folder, "plans", limit_gb=10.0).of("sam", "slices", 0)
    embedding = Embedding({"image": torch.zeros(3, 8, 4, 4)}, (40, 40))

    def keep() -> None:
        for case in cases:
            kept.get(case, "digest", lambda: embedding)

    return 1000 * seconds(keep) / len(cases)


def measure(here: World, count: int, repeats: int) -> dict[str, float]:
    """Return the figures of a pool of ``count`` cases."""
    enlarge(here, count)
    found: dict[str, float] = {}
    before = resident_bytes()
    with quiet():
        start = time.process_time()
        trainer, loader = here.semi_supervised("Growth", sam={"preview_cases": 0}, rounds=False)
        found["start-up, s"] = time.process_time() - start
        found["memory after start-up, MiB"] = (resident_bytes() - before) / 2**20
        written = write_round(trainer, here)
        found["batch, ms"] = median_ms(lambda: next(loader), repeats)
        trainer.dataloader_unlabeled = loader
        trainer.network.train()
        labeled = random_batches(trainer)[0]
        found["step, ms"] = median_ms(lambda: trainer.train_step(labeled), repeats)
        for _ in range(count // loader.batch_size):  # as many patches as there are cases
            next(loader)
        found["memory after N patches, MiB"] = (resident_bytes() - before) / 2**20
        found["pseudo-label written, ms a case"] = written
        session, cases = trainer.pseudo_labels, list(trainer.pseudo_labels.pool.files)
        found["embedding kept, ms a case"] = keep_embeddings(here.folder.parent / "embeddings", cases)
        found[f"round of {REFRESHED} cases, s"] = seconds(lambda: session.stage.refresh(1, cases[:REFRESHED], 0))
        session._use(1)
        state = session.state_dict() | {"next_round": 2}
        found["resume, s"] = seconds(lambda: session.load_state_dict(state))
    return found


def growth(values: Sequence[float]) -> list[float]:
    """Return how many times each value is the one before."""
    return [later / max(earlier, 1e-9) for earlier, later in itertools.pairwise(values)]


def verdict(name: str, values: Sequence[float], sizes: Sequence[int]) -> str:
    """Return whether a figure grows as it may."""
    bounds = [SLACK * (1 if EXPECTED[name] == FLAT else factor) for factor in growth(sizes)]
    holds = all(ratio <= bound for ratio, bound in zip(growth(values), bounds, strict=True))
    return f"{EXPECTED[name]}: {'holds' if holds else 'MISSED'}"


def report(found: dict[int, dict[str, float]]) -> str:
    """Return the table."""
    sizes = list(found)
    rows = []
    for name in EXPECTED:
        values = [figures[name] for figures in found.values()]
        rows.append([name, *(f"{value:.3g}" for value in values), verdict(name, values, sizes)])
    return table(["unlabeled cases", *map(str, sizes), "may grow"], rows)


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, repeats=40)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of unlabeled cases")
    parser.add_argument("--of", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args([*TINY, *argv])
    if args.of:
        with on_machine(args) as device, world(args, device) as here:
            print(json.dumps(measure(here, args.of, args.repeats)))
        return
    print(describe_machine(torch.device(args.device), args.threads) + "\n")
    found = {}
    for size in args.sizes:
        command = [sys.executable, __file__, *argv, "--of", str(size)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found[size] = json.loads(done.stdout.splitlines()[-1])
    print(report(found))
    if args.json is not None:
        write_json(args.json, {str(size): figures for size, figures in found.items()})


if __name__ == "__main__":
    main()
