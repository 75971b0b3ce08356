"""Time and memory of one optimiser step: stock nnU-Net on B labeled patches against ours on B labeled + B unlabeled.

The same random patches for all, no loader, every term of ours at work (gate open, full weights, pseudo-labels there).
SemiSAM-half takes half as many unlabeled patches as labeled ones.
Times are medians of interleaved steps in one process; some steps (``gate: measure_every``) also measure the teacher
and count as such.
Peak memory is that of a fresh process each: on CUDA what torch allocated, else the growth of the process while it
builds the trainer and takes three steps.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
from collections.abc import Callable

import torch
from _measure import Timing, describe_machine, interleave, resident_bytes, table, verdict
from _tiny import World, add_arguments, on_machine, random_batches, world
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_semisam.io.json_files import write_json
from nnunet_semisam.settings import Settings
from nnunet_semisam.training.trainer import SemiSupervisedTrainer

TIME_BOUND, MEMORY_BOUND = 2.4, 1.3
STOCK, SUPERVISED = "nnU-Net", "Supervised"
HALF = "SemiSAM-half"  # the setting unlabeled_batch_size at half the batch size of the plans
WITH_UNLABELED = ("MeanTeacher", "SemiSAM", HALF)
OURS = (SUPERVISED, *WITH_UNLABELED)
STEPS_FOR_MEMORY = 3  # the first of them measures the teacher


def build(name: str, here: World) -> nnUNetTrainer:
    """Return a trainer that is ready for ``train_step``; ours find their unlabeled batch by themselves."""
    if name == STOCK:
        trainer = here.trainer(nnUNetTrainer)
        trainer.network.train()
        return trainer
    if name == SUPERVISED:
        trainer = here.trainer(SemiSupervisedTrainer, Settings.of(method="supervised"), name)
        trainer.network.train()
        return trainer
    trainer, _ = here.semi_supervised(name, sam=None if name == "MeanTeacher" else {})
    unlabeled = random_batches(trainer)[1]
    if name == HALF:
        unlabeled = {view: values[: max(1, len(values) // 2)] for view, values in unlabeled.items()}
    trainer.dataloader_unlabeled = itertools.repeat(unlabeled)
    trainer.network.train()
    return trainer


def measure_every() -> int:
    """Return how many steps lie between two measurements of the teacher."""
    return Settings().block("gate").measure_every


def step(trainer: nnUNetTrainer, batch: dict, measuring: bool = False) -> Callable[[], object]:
    """Return a function that takes one step; of ours, one that measures the teacher or one that does not."""

    def run() -> object:
        ours = getattr(trainer, "semi_supervised_step", None)
        if ours is not None:
            ours.unlabeled_pass.step = 100 * measure_every() + (0 if measuring else 1)
        return trainer.train_step(batch)

    return run


def measure_time(here: World, repeats: int) -> dict[str, tuple[float, float]]:
    """Return seconds per step by trainer, by the clock on the wall and in processor time."""
    trainers = {name: build(name, here) for name in (STOCK, *OURS)}
    batch = random_batches(trainers[STOCK])[0]
    variants = {name: step(trainers[name], batch) for name in (STOCK, SUPERVISED)}
    for name, measuring in itertools.product(WITH_UNLABELED, (False, True)):
        variants[f"{name} {measuring}"] = step(trainers[name], batch, measuring)
    timings = interleave(variants, repeats, here.device, warmup=2)
    plain = {name: (timings[name].median, timings[name].cpu_median) for name in (STOCK, SUPERVISED)}
    average = {name: _average(timings[f"{name} False"], timings[f"{name} True"]) for name in WITH_UNLABELED}
    return {**plain, **average}


def _average(ordinary: Timing, measuring: Timing) -> tuple[float, float]:
    share = 1 / measure_every()
    wall = (1 - share) * ordinary.median + share * measuring.median
    cpu = (1 - share) * ordinary.cpu_median + share * measuring.cpu_median
    return wall, cpu


def measure_memory(name: str, here: World) -> dict[str, int]:
    """Return the peak of this process in bytes: ``net``, and ``total`` with libraries and data."""
    import nnunet_semisam.pseudo_labels.session  # noqa: F401  libraries shall not count

    before = resident_bytes()
    trainer = build(name, here)
    run = step(trainer, random_batches(trainer)[0])
    step(trainer, random_batches(trainer)[0], measuring=True)()
    for _ in range(STEPS_FOR_MEMORY - 1):
        run()
    if here.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(here.device)
        return {"net": peak, "total": torch.cuda.max_memory_reserved(here.device)}
    return {"net": resident_bytes(peak=True) - before, "total": resident_bytes(peak=True)}


def memory_of_all(argv: list[str]) -> dict[str, dict[str, int]]:
    """Measure each trainer in a process of its own."""
    found = {}
    for name in (STOCK, *OURS):
        command = [sys.executable, __file__, *argv, "--memory-of", name]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
    return found


def figures(times: dict[str, tuple[float, float]], memory: dict[str, dict[str, int]]) -> dict:
    """Return seconds, bytes and their ratios to stock nnU-Net by trainer, ready for json."""
    found = {}
    for name, (wall, cpu) in times.items():
        found[name] = {"seconds": wall, "processor_seconds": cpu, "time_ratio": wall / times[STOCK][0]}
        if memory:
            found[name] |= {f"peak_{kind}_bytes": value for kind, value in memory[name].items()}
            found[name]["memory_ratio"] = memory[name]["net"] / memory[STOCK]["net"]
    return found


def report(times: dict[str, tuple[float, float]], memory: dict[str, dict[str, int]]) -> str:
    """Return the table and the verdicts."""
    rows = []
    for name, (wall, cpu) in times.items():
        row = [name, f"{wall:.4g}", f"{wall / times[STOCK][0]:.3g} x", f"{cpu / times[STOCK][1]:.3g} x"]
        if memory:
            net, total = (memory[name][kind] for kind in ("net", "total"))
            row += [f"{net / 2**20:.0f}", f"{net / memory[STOCK]['net']:.3g} x"]
            row += [f"{total / memory[STOCK]['total']:.3g} x"]
        rows.append(row)
    header = ["trainer", "s / step", "wall time", "processor time"]
    header += ["peak MiB", "peak", "peak with libraries"] if memory else []
    lines = [table(header, rows), ""]
    for name in OURS:
        lines.append(f"{name}, time: {verdict(times[name][0] / times[STOCK][0], TIME_BOUND, at_most=True)}")
        if memory:
            ratio = memory[name]["net"] / memory[STOCK]["net"]
            lines.append(f"{name}, memory: {verdict(ratio, MEMORY_BOUND, at_most=True)}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, repeats=9)
    parser.add_argument("--no-memory", action="store_true", help="do not measure memory")
    parser.add_argument("--memory-of", choices=(STOCK, *OURS), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    with on_machine(args) as device, world(args, device) as here:
        if args.memory_of:
            peak = measure_memory(args.memory_of, here)
            print(json.dumps(peak))
            if args.json is not None:
                write_json(args.json, peak)
            return
        print(describe_machine(device, args.threads))
        what = here.describe()
        print(what + "\n")
        times = measure_time(here, args.repeats)
    memory = {} if args.no_memory else memory_of_all(argv)
    print(report(times, memory))
    if args.json is not None:
        write_json(args.json, {"what": what, "trainers": figures(times, memory)})


if __name__ == "__main__":
    main()
