"""Seconds per case of a round of pseudo-labels, cold and with cached embeddings, and its share of the training time.

A real trainer's stage runs its real parts: nnU-Net's sliding window with the (untrained) network of the plans, SAM,
fusion, the store. An untrained network would give SAM no components to be prompted with, so the stage is handed blurred
label maps of the invented cases in place of what the window predicted: as many components as a trained network finds.

The share of the training time at the default refresh period is ``S / (S + T)``, with
``S = cases_per_refresh * (seconds per case) + calibration_cases / calibrate_every * (seconds per labeled case)`` and
``T = refresh_epochs * num_iterations_per_epoch * (seconds per SemiSAM step)``, the step on random patches measured
here too. It counts periods in which there are rounds; before the setting ``start`` they cost nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import shutil
import statistics
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from _measure import Timing, clock, describe_machine, interleave, table, verdict
from _tiny import CLASSES, add_arguments, on_machine, random_batches, world
from scipy import ndimage
from torch import Tensor

from nnunet_semisam.io.json_files import write_json
from nnunet_semisam.training.trainer import SemiSupervisedTrainer

BOUND = 0.1
COLD, CACHED = "cold", "embeddings cached"
PARTS = ("load", "predict", "encode", "decode", "fuse")


class KnownPrediction:
    """Takes as long as the trainer's prediction, and returns a blurred label map.

    Args:
        stage: Its ``predict`` and ``load_image`` are replaced.
        labels: Label map of each case, ``(Z, Y, X)``.
    """

    def __init__(self, stage: Any, labels: dict[str, np.ndarray]) -> None:
        self.predict, self.predict_mirrored = stage.inputs.predict, stage.inputs.predict_mirrored
        self.load, self.case = stage.inputs.load_image, ""
        self.predictions = {case: torch.from_numpy(blur(label)) for case, label in labels.items()}
        stage.inputs = replace(stage.inputs, predict=self, predict_mirrored=self.mirrored, load_image=self.load_image)

    def load_image(self, case: str) -> np.ndarray:
        """Load a case, and remember which."""
        self.case = case
        return self.load(case)

    def __call__(self, image: np.ndarray) -> Tensor:
        """Predict, and return what is known, ``(K, Z, Y, X)``."""
        self.predict(image)
        return self.predictions[self.case]

    def mirrored(self, image: np.ndarray) -> Tensor:
        """Predict the mirrored image, and return what is known."""
        self.predict_mirrored(image)
        return self.predictions[self.case]


def blur(label: np.ndarray) -> np.ndarray:
    """Return probabilities ``(K, Z, Y, X)`` of a label map, unsure at the borders."""
    channels = [ndimage.gaussian_filter((label == k).astype(np.float32), (0, 2, 2)) for k in range(CLASSES + 1)]
    return np.stack(channels) / np.sum(channels, axis=0)


@dataclass
class Rounds:
    """What rounds of one kind took.

    Attributes:
        whole: Time of each round, everything included.
        parts: Seconds per case of each part of the work, of each round.
        prompts: Prompts per case.
        hit_rate: Share of embeddings found in the cache, of each round.
        cases: Cases of a round.
    """

    whole: Timing = field(default_factory=Timing)
    parts: list[dict[str, float]] = field(default_factory=list)
    prompts: list[float] = field(default_factory=list)
    hit_rate: list[float] = field(default_factory=list)
    cases: int = 0

    def part(self, name: str) -> float:
        """Median seconds per case of one part."""
        return statistics.median(parts[name] for parts in self.parts)

    def run(self, stage: Any, index: int, cases: list[str], device: torch.device) -> None:
        """Make one round and note it."""
        summaries = []
        clock(lambda: summaries.append(stage.refresh(index, cases, 0)), device, self.whole)
        summary, self.cases = summaries[0], len(cases)
        self.parts.append({name: summary.seconds_by_part[name] / len(cases) for name in PARTS})
        self.prompts.append(sum(one.prompts for one in summary.classes) / len(cases))
        self.hit_rate.append(summary.cache_hit_rate)


def measure_rounds(trainer: SemiSupervisedTrainer, repeats: int) -> dict[str, Rounds]:
    """Make rounds over all unlabeled cases, in turns without and with cached embeddings."""
    session, found = trainer.pseudo_labels, {COLD: Rounds(), CACHED: Rounds()}
    cases = list(session.pool.files)
    session.stage.refresh(1, cases[:1], 0)  # warm-up
    for i in range(repeats):
        shutil.rmtree(session.stage.ensemble.members[0].parts.cache.cache.root, ignore_errors=True)
        found[COLD].run(session.stage, 2 + 2 * i, cases, trainer.device)
        found[CACHED].run(session.stage, 3 + 2 * i, cases, trainer.device)
    return found


def measure_calibration(trainer: SemiSupervisedTrainer, device: torch.device) -> Timing:
    """Return the time of the calibration on all labeled cases, embeddings cached."""
    session, timings = trainer.pseudo_labels, (Timing(), Timing())
    cases, load_label = session.labeled.cases, session.labeled.load_label
    for timing in timings:  # the first encodes
        clock(lambda: session.stage.calibrate(0, 0, cases, load_label, 0.8), device, timing)
    return timings[1]


def measure_step(trainer: SemiSupervisedTrainer, repeats: int) -> Timing:
    """Return the time of a SemiSAM step on random patches."""
    batch, unlabeled = random_batches(trainer)
    trainer.dataloader_unlabeled = itertools.repeat(unlabeled)
    trainer.network.train()
    return interleave({"": lambda: trainer.train_step(batch)}, repeats, trainer.device)[""]


@dataclass(frozen=True)
class Costs:
    """What the share of the training time is made of; the formula is in the module's text.

    Attributes:
        step: Time of a SemiSAM step.
        calibration: Time of the calibration on as many labeled cases as a round has.
        steps: Optimiser steps between two rounds.
        calibrated: Labeled cases that a round calibrates with, on average.
    """

    step: Timing
    calibration: Timing
    steps: int
    calibrated: float

    def share(self, rounds: Rounds, cases: int, clock_name: str = "median") -> float:
        """Return the stage's share of the training time, in [0, 1], by ``median`` (wall) or ``cpu_median``."""
        step, whole, calibration = (getattr(t, clock_name) for t in (self.step, rounds.whole, self.calibration))
        stage = (cases * whole + self.calibrated * calibration) / rounds.cases
        return stage / (stage + self.steps * step)


def report(session: Any, found: dict[str, Rounds], slices: int, costs: Costs, pool: int) -> str:
    """Return tables and verdict."""
    cold, cached, cases = found[COLD], found[CACHED], session.plan.cases_per_refresh
    rows = [
        [
            name,
            f"{r.whole.median / r.cases:.3g}",
            *(f"{r.part(part):.3g}" for part in PARTS),
            f"{statistics.mean(r.hit_rate):.0%}",
        ]
        for name, r in found.items()
    ]
    shares = [
        [f"{name}, {how}", *(f"{costs.share(r, count, which):.3g}" for count in (cases, min(pool, cases)))]
        for name, r in found.items()
        for how, which in (("wall time", "median"), ("processor time", "cpu_median"))
    ]
    return "\n".join(
        [
            table(["round", "s / case", *PARTS, "cache hits"], rows),
            "",
            f"cached : cold {cached.whole.median / cold.whole.median:.3g} x; "
            f"encoded {slices / cold.part('encode'):.4g} slices / s; "
            f"decoded {cached.prompts[0] / cached.part('decode'):.4g} prompts / s, {cached.prompts[0]:.0f} a case "
            "(finding components and every variant of a prompt included)",
            f"SemiSAM step {costs.step.median:.4g} s, {costs.steps} steps between two rounds; calibration "
            f"{costs.calibration.median / cached.cases:.3g} s per labeled case, {costs.calibrated:.3g} of them a round",
            "",
            table(["share of the training", f"{cases} cases a round", f"a pool of {pool}"], shares),
            "",
            f"Stage : training, cached: {verdict(costs.share(cached, cases), BOUND, at_most=True)}",
        ]
    )


def figures(found: dict[str, Rounds], slices: int, costs: Costs, cases: int) -> dict:
    """Return seconds, rates and shares of the training, ready for json."""
    rounds = {
        name: {
            "seconds_per_case": r.whole.median / r.cases,
            "parts": {part: r.part(part) for part in PARTS},
            "prompts_per_case": statistics.median(r.prompts),
            "slices_per_case": slices,
            "share_of_training": costs.share(r, cases),
        }
        for name, r in found.items()
    }
    return {"cases_per_round": cases, "seconds_per_step": costs.step.median, "rounds": rounds}


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, repeats=3)
    parser.add_argument("--model", default="nano", help="the setting sam: {models: [...]}")
    parser.add_argument("--pool", type=int, default=100, help="also tell the share for a pool of so many cases")
    args = parser.parse_args(argv)
    with on_machine(args) as device, world(args, device) as here:
        print(describe_machine(device, args.threads))
        print(here.describe())
        trainer, _ = here.semi_supervised("Stage", sam={"models": [args.model], "preview_cases": 0})
        session = trainer.pseudo_labels
        cases = [*session.pool.files, *session.labeled.cases]
        KnownPrediction(session.stage, {case: here.label_map(case) for case in cases})
        slices = here.shape[session.stage.ensemble.axis]
        print(f"SAM: {args.model}, cases of {slices} slices\n")
        with contextlib.redirect_stdout(io.StringIO()):  # the training log
            calibration = measure_calibration(trainer, device)
            found = measure_rounds(trainer, args.repeats)
            step = measure_step(trainer, args.repeats + 2)
        steps = session.plan.refresh_epochs * trainer.num_iterations_per_epoch
        calibrated = session.settings.calibration_cases / session.settings.calibrate_every
        costs = Costs(step, calibration, steps, calibrated)
        print(report(session, found, slices, costs, args.pool))
        if args.json is not None:
            cases_per_round = session.plan.cases_per_refresh
            about = {"what": here.describe(), "model": args.model}
            write_json(args.json, about | figures(found, slices, costs, cases_per_round))


if __name__ == "__main__":
    main()
