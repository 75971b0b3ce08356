"""Compare arms: a table in Markdown of all trials that are done.

Call it as ``python -m benchmarks.label_efficiency.analyse --out DIR [--against baseline] > table.md``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.label_efficiency.arms import START
from benchmarks.label_efficiency.draws import DEVELOPMENT
from benchmarks.label_efficiency.paired import PairedDifference, difference, pair
from benchmarks.label_efficiency.protocols import PROTOCOLS
from benchmarks.label_efficiency.results import RESULTS_FILE, TrialResult, read_results
from nnunet_semisam.benchmark.metrics import MEAN
from nnunet_semisam.benchmark.plan import BASELINE
from nnunet_semisam.errors import UserError

ABOUT = """Dice in %, sliding window without mirroring, final checkpoint. Differences are paired by draw, seed and \
patient. Brackets: 95 % bootstrap over patients and trainings at once (draws, and seeds within them). p: Wilcoxon over \
patients / over trainings, not corrected for the number of comparisons; claim what is small in both. n: pairs of \
trainings (draws)."""
HEADER = "| arm | n | patients | {labels} | against {against} | p | by label | gate opens | minutes |"
SIGNIFICANT = 0.05
Cell = tuple[str, str, int, int]
"""Protocol, set of judged patients, number of labeled patients, steps."""


def cells_of(results: Sequence[TrialResult]) -> dict[Cell, list[TrialResult]]:
    """Return the results of each table."""
    cells: dict[Cell, list[TrialResult]] = {}
    starts = [result for result in results if result.arm == START]
    for result in results:
        if result.arm != START:
            cells.setdefault((result.protocol, result.judged, result.budget, result.steps), []).append(result)
    for (protocol, judged, budget, _), members in cells.items():  # a start stands in every table of its protocol
        cell = (protocol, judged, budget)
        members += [one for one in starts if (one.protocol, one.judged, one.budget) == cell]
    return dict(sorted(cells.items()))


def table(cell: Cell, results: Sequence[TrialResult], against: str) -> Iterator[str]:
    """Yield the lines of one table.

    Args:
        cell: What it is of.
        results: Its results.
        against: Name of the arm that all others are compared with.
    """
    protocol, judged, budget, steps = cell
    labels = results[0].labels()
    arms = sorted({result.arm for result in results}, key=lambda name: (name != against, name))
    yield f"### {protocol}, {budget} labeled, {steps} steps"
    yield ""
    yield f"Judged: {who_is_judged(protocol, judged)}."
    yield ""
    header = HEADER.format(labels="mean (" + " / ".join(labels) + ")", against=against)
    yield header
    yield "|" + "---|" * (header.count("|") - 1)
    reference = [result for result in results if result.arm == against]
    for arm in arms:
        ours = [result for result in results if result.arm == arm]
        yield row(arm, ours, pair(ours, reference) if arm != against else [], labels)
    yield ""
    yield from notes(results, reference, against)


def who_is_judged(protocol: str, judged: str) -> str:
    """Return in words who was judged, and whether choices are made on them."""
    if judged != DEVELOPMENT:
        return "the published validation patients, final tables only"
    return PROTOCOLS[protocol].choices if protocol in PROTOCOLS else "development draws"


def row(arm: str, ours: Sequence[TrialResult], pairs: Sequence[tuple], labels: Sequence[str]) -> str:
    """Return the line of an arm."""
    means = [result.means() for result in ours]
    dice = {name: 100 * statistics.fmean(mean[name] for mean in means) for name in [MEAN, *labels]}
    by_label = " / ".join(f"{dice[label]:.1f}" for label in labels)
    n = f"{len(ours)} ({len({result.draw for result in ours})})"
    patients = str(len({*ours[0].patient.values()}))
    compared, tests, each = "", "", ""
    if pairs:
        found = difference(pairs, MEAN)
        compared, tests = in_points(found), in_p(found)
        each = "; ".join(_of_label(label, difference(pairs, label)) for label in labels)
        n = f"{found.runs} ({found.draws})"
    minutes = statistics.median(result.train_seconds + result.predict_seconds for result in ours) / 60
    cells = [arm, n, patients, f"{dice[MEAN]:.1f} ({by_label})", compared, tests, each, gate(ours), f"{minutes:.0f}"]
    return "| " + " | ".join(cells) + " |"


def _of_label(label: str, found: PairedDifference) -> str:
    both = [p for p in (found.p_patients, found.p_runs) if p is not None]
    mark = " **worse**" if both and max(both) < SIGNIFICANT and found.mean < 0 else ""
    return f"{label} {in_points(found)}{mark}"


def in_points(found: PairedDifference) -> str:
    """Return a difference and its interval in points of Dice."""
    text = f"{100 * found.mean:+.1f}"
    return text if found.low is None else f"{text} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def in_p(found: PairedDifference) -> str:
    """Return both tests."""
    return " / ".join("-" if p is None else f"{p:.2g}" for p in (found.p_patients, found.p_runs))


def gate(ours: Sequence[TrialResult]) -> str:
    """Return the median step at which unlabeled terms began, and in how many trainings they never did."""
    steps = [result.gate_step for result in ours if result.gate_step is not None]
    if not steps:
        return "" if ours[0].trainer == BASELINE else "never"
    never = len(ours) - len(steps)
    return f"{statistics.median(steps):.0f}" + (f", never in {never}" if never else "")


def notes(results: Sequence[TrialResult], reference: Sequence[TrialResult], against: str) -> Iterator[str]:
    """Yield what a reader must know: trials without a partner, several states of code or settings, the noise."""
    for arm in sorted({result.arm for result in results}):
        ours = [result for result in results if result.arm == arm]
        alone = 0 if arm == against else len(ours) - len(pair(ours, reference))
        if alone:
            yield f"- {arm}: {alone} trainings have no partner among those of {against}; they are in no difference."
        if len({commit for result in ours for commit in result.commits}) > 1:
            yield f"- {arm}: trained by more than one commit of the code."
        if len({result.settings_sha256 for result in ours}) > 1:
            yield f"- {arm}: **settings differ between its trainings** (defaults of the code have changed)."
    spreads = [spread for spread in _spreads(reference) if spread is not None]
    if spreads:
        yield f"- {against}: seeds of one draw differ by a standard deviation of {100 * statistics.fmean(spreads):.1f}."
    yield ""


def _spreads(results: Sequence[TrialResult]) -> Iterator[float | None]:
    for draw in sorted({result.draw for result in results}):
        means = [result.means()[MEAN] for result in results if result.draw == draw]
        yield statistics.stdev(means) if len(means) > 1 else None


def main(argv: Sequence[str] | None = None) -> int:
    """Print all tables; exit status 2 if there is nothing to compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.label_efficiency.analyse", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the queue's folder")
    parser.add_argument("--against", default="baseline", metavar="ARM", help="the arm to compare with (baseline)")
    parser.add_argument("--protocol", choices=PROTOCOLS, help="one protocol only")
    args = parser.parse_args(argv)
    try:
        results = read_results(args.out / RESULTS_FILE)
    except UserError as error:
        print(f"analyse: {error}", file=sys.stderr)
        return 2
    print(f"{ABOUT}\n")
    for cell, members in cells_of(results).items():
        if args.protocol in (None, cell[0]):
            print("\n".join(table(cell, members, args.against)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
