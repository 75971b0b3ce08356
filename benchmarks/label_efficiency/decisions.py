"""Does the calibration decide rightly where a SAM helps? Its decisions, beside what they do on hidden labels.

Calibrates with a trained model as a training does (labeled cases, simulated generalisation error), and then measures on
cases of its pool, by their hidden labels, what each generalist would have gained in each class: with the weight that
was decided, or with the largest that might have been, where it was left out. Call it as
``python -m benchmarks.label_efficiency.decisions FOLD --cases 20 [--settings FILE ...] [--json FILE]`` with nnU-Net's
three variables set; ``FOLD`` is a folder ``fold_N`` in ``nnUNet_results``.

Shapes in this file: ``F`` foreground classes, ``K`` output channels of the network.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from nnunet_semisam.generalists.base import CasePrediction
from nnunet_semisam.generalists.temperature import tempered
from nnunet_semisam.generalists.weights import GeneralistWeights
from nnunet_semisam.io.json_files import write_json
from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels.case_outcome import dice
from nnunet_semisam.pseudo_labels.fusion import fused_probs
from nnunet_semisam.pseudo_labels.round_log import ClassRecord

HEADER = (
    "| generalist | class | labeled cases: network | fused | weight "
    "| hidden cases: network | generalist | fused | gain | gains in | decision |"
)


@dataclass
class Decision:
    """A decision of the calibration, and what it does on cases with hidden labels.

    Attributes:
        record: What the calibration measured and decided.
        weight: Share of the generalist that was tried: the decided one, or the largest that might have been.
        network: Dice of the network's prediction, a value for each case that shows the class.
        generalist: The same of the generalist alone (the network's, where it predicts nothing).
        fused: The same of both, the generalist contributing to this class alone.
    """

    record: ClassRecord
    weight: float
    network: list[float] = field(default_factory=list)
    generalist: list[float] = field(default_factory=list)
    fused: list[float] = field(default_factory=list)

    @property
    def gains(self) -> np.ndarray:
        """Return fused minus network, a value for each case."""
        return np.array(self.fused) - np.array(self.network)

    @property
    def right(self) -> bool:
        """Return whether it is active where it helps on average, and inactive where it does not."""
        return (self.record.weight > 0) == bool(self.gains.mean() > 0)

    def add(self, labels: Labels, specialist: np.ndarray, prediction: CasePrediction, truth: np.ndarray) -> None:
        """Measure a case.

        Args:
            labels: What the channels mean.
            specialist: The network's prediction, ``(K, Z, Y, X)``.
            prediction: The generalist's, arrays ``(F, Z, Y, X)``.
            truth: Hidden label map, ``(Z, Y, X)``.
        """
        f = labels.names.index(self.record.name)
        real, own = labels.members(truth, f), labels.foreground(specialist)
        if not real.any():
            return
        for weight, values in ((0.0, self.network), (1.0, self.generalist), (self.weight, self.fused)):
            weights = only(f, weight, self.record.temperature, labels.channels)
            fused = labels.label_map(fused_probs(own, tempered(prediction, weights.temperature), weights))
            values.append(dice(labels.members(fused, f), real))


def only(f: int, weight: float, temperature: float, channels: int) -> GeneralistWeights:
    """Return weights with which a generalist contributes to one class alone."""
    return GeneralistWeights(
        tuple(weight if i == f else 0.0 for i in range(channels)),
        ((0.0, 0.0),) * channels,
        tuple(temperature if i == f else 1.0 for i in range(channels)),
    )


def rows(decisions: Iterable[Decision], names: Mapping[str, str]) -> Iterable[str]:
    """Yield the lines of the table, in Markdown; Dice in [0, 1].

    Args:
        decisions: A row each.
        names: What records call a class -> what users call it.
    """
    yield HEADER
    yield "|---" * HEADER.count(" |") + "|"
    for each in decisions:
        record, gains = each.record, each.gains
        measured = (record.dice_specialist, record.dice_fused)
        labeled = ("-" if value is None else f"{value:.3f}" for value in measured)
        hidden = (f"{np.mean(values):.3f}" for values in (each.network, each.generalist, each.fused))
        weight = f"{record.weight:g}" if record.weight > 0 else f"inactive ({each.weight:g} tried)"
        cells = [
            record.generalist,
            names[record.name],
            *labeled,
            weight,
            *hidden,
            f"{gains.mean():+.3f} ± {_error(gains):.3f}",
            f"{np.mean(gains > 0):.0%} of {len(gains)}",
            "right" if each.right else "wrong",
        ]
        yield f"| {' | '.join(cells)} |"


def _error(values: np.ndarray) -> float:
    """Return the standard error of the mean."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


@dataclass(frozen=True)
class Comparison:
    """What was decided, and what it does.

    Attributes:
        estimated: Dice of the network on unseen cases, as the calibration estimates it.
        network: The true one on the hidden cases, mean over cases and classes.
        fused: The same of the pseudo-labels.
        decisions: Of every generalist and class.
        names: What records call a class -> what users call it.
    """

    estimated: float
    network: float
    fused: float
    decisions: list[Decision]
    names: dict[str, str]


def measure(fold: Path, checkpoint: str, settings: dict, cases: int) -> Comparison:
    """Calibrate, and compare with the hidden labels of some cases of the pool."""
    from benchmarks.label_efficiency.stage_of_model import ModelStage

    model = ModelStage(fold, checkpoint, settings)
    stage, labels = model.session.stage, model.labels
    pool = model.some_cases(cases)
    few = pool[: stage.sam.calibration_cases]
    estimated = stage.pipeline.estimate_dice(few)
    if estimated is None:
        raise SystemExit("The network finds no class in unlabeled cases: its Dice cannot be estimated.")
    table = model.calibrate(few)
    largest = stage.settings.block("calibration").weights[-1]
    decisions = [Decision(record, record.weight or largest) for record in table.classes]
    whole: dict[str, list[float]] = {"network": [], "fused": []}
    for case in pool:
        truth = model.hidden_label(case)
        image = stage.inputs.load_image(case)
        specialist, second = stage.pipeline.predict_twice(case, image)
        made = stage.pipeline.fused(case, image, specialist, second)
        for member in stage.ensemble.members:
            result = member.predict_case(stage.pipeline._case_input(case, image, made.prompted))
            for decision in decisions:
                if decision.record.generalist == member.name:
                    decision.add(labels, specialist, result.prediction, truth)
        for name, label in (
            ("network", labels.label_map(labels.foreground(specialist))),
            ("fused", made.outcome.fused.label),
        ):
            for f in range(labels.channels):
                found = dice(labels.members(label, f), labels.members(truth, f))
                if found is not None:
                    whole[name].append(found)
        print(case, file=sys.stderr, flush=True)
    names = dict(zip(labels.names, labels.class_names, strict=True))
    return Comparison(estimated, *(float(np.mean(values)) for values in whole.values()), decisions, names)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table for each settings file."""
    from benchmarks.label_efficiency.stage_of_model import fold_parser, named_settings

    parser = fold_parser(__doc__, cases=20)
    parser.add_argument("--json", type=Path, help="also write all values to this file")
    args = parser.parse_args(argv)
    content = {}
    for name, settings in named_settings(args.settings).items():
        found = measure(args.fold, args.checkpoint, settings, args.cases)
        print(f"### {name}\n")
        print("\n".join(rows(found.decisions, found.names)))
        print(
            f"\nMean Dice on hidden cases: network {found.network:.3f}, pseudo-labels {found.fused:.3f}; estimated: "
            f"{found.estimated:.3f}",
            flush=True,
        )
        content[name] = asdict(found)
    if args.json is not None:
        write_json(args.json, content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
