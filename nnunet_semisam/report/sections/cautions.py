"""What a reader must know before believing a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nnunet_semisam.benchmark.metrics import MEAN
from nnunet_semisam.benchmark.records import CaseSet, Summary
from nnunet_semisam.errors import name_some
from nnunet_semisam.jobs.base import Status
from nnunet_semisam.report.drawing.number_formats import count
from nnunet_semisam.report.reading.benchmark_folder import Benchmark, GridCell
from nnunet_semisam.report.reading.inactive_runs import inactive_runs
from nnunet_semisam.report.reading.training_cases import DatasetRecord
from nnunet_semisam.report.reading.training_logs import Series, TrainingRecord
from nnunet_semisam.report.sections.comparison import FEWEST_GROUPS, Verdict, least_p, unmatched, verdict
from nnunet_semisam.report.sections.equal_hours import uneven_hours

FEW_GROUPS = 15  # below, intervals miss the true mean in 7 % and more of cases, not in 5 % (normal differences)

INTERVALS = (
    "Intervals are 95 % bootstrap intervals over patients. They cover the chance of which patients were tested, not "
    "the chance of a training; that is seen in the spread of single runs."
)
ONE_TRAINING = (
    "Some means rest on one training (one seed). Its luck is in the number and cannot be seen. Trainings "
    "differ from seed to seed, most of all with few labels: run several --seeds before you believe a gain."
)
UNPAIRED = (
    "Some means rest on other runs than the difference beside them, because runs are missing. A difference pairs "
    "runs of the same fold and seed alone; the column of pairs tells how many there are."
)
ABSENT_LABELS = (
    "Where the ground truth lacks a label and none is predicted, there is nothing to judge, and the case is in no mean "
    "of that label. In a difference it counts as perfect (Dice 1, distance 0 mm) if the other trainer invents the "
    "label, and between the seeds of one trainer, too: an invention costs in every comparison. A difference can "
    "therefore rest on more cases than a mean, and is not the difference of two means."
)
VALIDATION_CASES = "Validation cases judged. Nothing of a training depends on them, but the plans may."


def all_cautions(benchmark: Benchmark, dataset: DatasetRecord, trainings: Mapping[str, TrainingRecord]) -> list[str]:
    """Return all that a reader must know, the gravest first.

    Args:
        benchmark: The results; what else of it is read must have been read before, so that all damage is noted.
        dataset: What is known of the dataset.
        trainings: Run -> what its logs say.
    """
    terms = {name: record.terms for name, record in trainings.items()}
    return [
        *benchmark.damage.sentences(),
        *benchmark.contradictions,
        *not_finite(trainings),
        *inactive_trainings(benchmark, terms),
        *cautions(benchmark),
        *data_notes(dataset),
    ]


def not_finite(trainings: Mapping[str, TrainingRecord]) -> list[str]:
    """Return one caution that names the trainings whose loss was no finite number in some epochs."""
    found = []
    for run, record in trainings.items():
        for name, epochs in record.not_finite.items():
            found.append(f"{name} of {run} ({count(epochs, 'epoch')})")
    if not found:
        return []
    return [f"Not finite (NaN or infinite), and so not drawn: {name_some(found, 5)}. Such a training has diverged."]


def inactive_trainings(benchmark: Benchmark, terms: Mapping[str, Series]) -> list[str]:
    """Return one caution that names all trainings to which no unlabeled case contributed.

    Args:
        benchmark: The results.
        terms: Run -> the columns of its ``semisam_log.csv``.
    """
    names = []
    for found in inactive_runs(benchmark, terms):
        cell = found.cell
        name = f"{benchmark.short(cell.trainer)}, {cell.configuration}, {cell.budget} labeled"
        names.append(f"{name} ({found.inactive} of {count(found.known, 'training')})")
    if not names:
        return []
    return [
        f"No unlabeled case contributed in: {'; '.join(names)}. These trainings ended before the network knew its "
        "labeled cases well enough (gate.dice), or before the terms start. They are trainings on labeled cases "
        "alone, and say nothing about unlabeled ones. Train longer."
    ]


def cautions(benchmark: Benchmark) -> list[str]:
    """Return what the numbers themselves give cause to say."""
    means = [one for one in benchmark.summaries if one.label == MEAN and one.metric == "dice"]
    found = [INTERVALS]
    if means and min(one.runs for one in means) == 1:
        found.append(ONE_TRAINING)
    found += _many_tests(benchmark)
    found += _few_patients(means)
    found += _too_few_for_a_verdict(means)
    if _some_unmatched(benchmark, means):
        found.append(UNPAIRED)
    found += uneven_hours(benchmark)
    found += _failures(means)
    if any(one.absent for one in benchmark.summaries):
        found.append(ABSENT_LABELS)
    if benchmark.study.cases is CaseSet.VAL:
        found.append(VALIDATION_CASES)
    found += _unfinished(benchmark)
    return found


def data_notes(dataset: DatasetRecord) -> list[str]:
    """Return what the converter noted about the data, such as scans that are there twice, as one caution."""
    if dataset.manifest is None or not dataset.manifest.notes:
        return []
    notes = [note.rstrip(".") for note in dataset.manifest.notes]
    return [f"About the data, the converter noted: {'. '.join(notes)}."]


def _many_tests(benchmark: Benchmark) -> list[str]:
    differences = [one.difference for one in benchmark.summaries if one.difference is not None]
    tests = sum(difference.p is not None for difference in differences)
    if tests < 2:
        return []
    return [
        f"{tests} p values are on this page, of each comparison one for every class and measure. They are not "
        "corrected for their number, but where it says Holm."
    ]


def _few_patients(means: Sequence[Summary]) -> list[str]:
    least = min((one.groups for one in means), default=FEW_GROUPS)
    if least >= FEW_GROUPS:
        return []
    if least < 2:
        return ["Only one patient judged some means: there is no interval, and they say nothing of other patients."]
    return [f"Only {count(least, 'patient')} judged some means: intervals of so few are too narrow."]


def _too_few_for_a_verdict(means: Sequence[Summary]) -> list[str]:
    groups = [one.difference.groups for one in means if verdict(one.difference) is Verdict.TOO_FEW]
    if not groups:
        return []
    most = max(groups)
    text = (
        f"Too few patients for a verdict: differences that rest on fewer than {FEWEST_GROUPS} are neither called "
        "better nor worse, nor coloured."
    )
    if most < 2:  # nothing is tested
        return [text]
    return [
        f"{text} With {count(most, 'patient')}, the Wilcoxon test cannot go below p {least_p(most):.3g}, even "
        "if all differ the same way."
    ]


def _some_unmatched(benchmark: Benchmark, means: Sequence[Summary]) -> bool:
    for one in means:
        cell = GridCell(one.configuration, one.budget, one.trainer)
        if unmatched(one, benchmark.baseline_summary(cell)):
            return True
    return False


def _failures(means: Sequence[Summary]) -> list[str]:
    failures = sum(one.failures for one in means)
    if not failures:
        return []
    return [
        f"{count(failures, 'score')} of whole cases {'holds' if failures == 1 else 'hold'} a failure: a label that "
        "was missed, invented, or a case without prediction. Failures count in every mean: Dice as 0, distances as the "
        "image's diagonal."
    ]


def _unfinished(benchmark: Benchmark) -> list[str]:
    counts: dict[Status, int] = {}
    for run in benchmark.runs:
        counts[run.status] = counts.get(run.status, 0) + 1
    done = counts.pop(Status.DONE, 0)
    if not counts:
        return []
    rest = ", ".join(f"{how_many} {status.value}" for status, how_many in counts.items())
    return [f"Not complete: {done} of {len(benchmark.runs)} runs are done ({rest}). Unfinished runs are in no mean."]
