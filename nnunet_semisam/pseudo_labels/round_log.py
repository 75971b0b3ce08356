"""Rounds as data: one json line for each calibration, each case of a round, and each round.

The file lies beside the training log (``semisam_rounds.jsonl``). Report and pictures read it; nothing reads log prose.
A resumed training may make a round again, with other cases: its last making counts. Standard library only.

Lists have one entry per foreground class or region, in the order of ``names``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from nnunet_semisam.errors import UserError, shown
from nnunet_semisam.io.json_files import append_json_line, read_json_lines
from nnunet_semisam.io.names import check_case_name
from nnunet_semisam.io.typed_records import Amount, Between, Count, Name, RecordError, Share, read_record

FILE_NAME = "semisam_rounds.jsonl"
Temperature = Annotated[float, Between(1e-3, 1e3)]
HISTOGRAM_BINS = 10  # of a confidence in [0, 1]


@dataclass(frozen=True)
class ClassRecord:
    """What a calibration measured about one class or region.

    Attributes:
        name: The label, or the labels of the region.
        generalist: Name of the generalist.
        weight: Share of the generalist in the fused probability; 0: inactive.
        disagreement: Accuracy of the fused label where specialist and generalist disagree, in [0, 1]: where it says
            "in the class", and where it says "not in the class".
        dice_specialist: Mean Dice of the specialist on labeled cases, with a simulated generalisation error; ``None``
            if no labeled case shows the class.
        dice_generalist: Mean Dice of the generalist.
        dice_fused: Mean Dice of the fusion with ``weight``.
        cases: How many labeled cases count.
        reason: Why the class is active or inactive, in words.
        temperature: What divides the logits of the generalist's probabilities.
        helped: Share of these cases in which the fusion gains, with ``weight`` or, if that is 0, with the weight of the
            largest mean gain; ``None`` without cases.
    """

    name: str
    generalist: str
    weight: Share
    disagreement: tuple[float, float]
    dice_specialist: float | None
    dice_generalist: float | None
    dice_fused: float | None
    cases: Count
    reason: str
    temperature: Temperature
    helped: Share | None


@dataclass(frozen=True)
class CalibrationRecord:
    """One calibration: see :class:`ClassRecord`.

    Attributes:
        round: Number of the round that it was made for.
        epoch: Epoch of the network.
        estimated_dice: The network's estimated mean Dice on unseen cases, in [0, 1].
        seconds: Time it took.
        classes: One entry per generalist and foreground class.
    """

    kind: ClassVar[str] = "calibration"
    round: Count
    epoch: Count
    estimated_dice: float
    seconds: Amount
    classes: tuple[ClassRecord, ...]


@dataclass(frozen=True)
class CaseRecord:
    """One case of one round.

    Attributes:
        round: Number of the round.
        epoch: Epoch of the network whose predictions prompted the generalist.
        case: Name of the case.
        names: Names of the foreground classes or regions.
        agreement: Dice between specialist and generalist where the generalist answered; ``None`` where it never did.
        confidence: Mean confidence of the pseudo-label's voxels of the class; ``None`` where there are none.
        confident_share: Share of those voxels that pass the confidence threshold; ``None`` likewise.
        prompts: How many components the generalist was prompted with.
        rejected: How many masks were rejected (out of all proportion, empty ones included).
        empty: How many masks were empty.
        weights: Weight of the generalist at the time.
        confident_share_all: Share of all voxels that pass the threshold.
        histogram: Voxels by confidence, ten bins over [0, 1], background first, then each class.
        seconds: Time by part of the work: load, predict, encode, decode, fuse.
        cache_hit: Whether the embedding was cached; ``None`` if none was needed.
        seconds_by_generalist: Time that each generalist took, ``encode`` and ``decode`` together.
    """

    kind: ClassVar[str] = "case"
    round: Count
    epoch: Count
    case: str
    names: tuple[Name, ...]
    agreement: tuple[Share | None, ...]
    confidence: tuple[Share | None, ...]
    confident_share: tuple[Share | None, ...]
    prompts: tuple[Count, ...]
    rejected: tuple[Count, ...]
    empty: tuple[Count, ...]
    weights: tuple[Share, ...]
    confident_share_all: Share
    histogram: tuple[tuple[Count, ...], ...]
    seconds: dict[str, Amount]
    cache_hit: bool | None
    seconds_by_generalist: dict[str, Amount] = field(default_factory=dict)


@dataclass(frozen=True)
class RoundRecord:
    """The end of a round: written when its labels are in use, or when there are none.

    Attributes:
        round: Number of the round.
        epoch: Epoch of the network.
        cases: How many cases were refreshed.
        active: Whether the labels are used; False if the calibration found no class in which the generalist helps.
        seconds: Time of the whole round, calibration included.
    """

    kind: ClassVar[str] = "round"
    round: Count
    epoch: Count
    cases: Count
    active: bool
    seconds: Amount


Record = CalibrationRecord | CaseRecord | RoundRecord
RECORDS: dict[str, type[Record]] = {cls.kind: cls for cls in (CalibrationRecord, CaseRecord, RoundRecord)}
R = TypeVar("R", CalibrationRecord, CaseRecord, RoundRecord, ClassRecord)


@dataclass(frozen=True)
class RoundLog:
    """All that a training wrote about its rounds, in order.

    Attributes:
        calibrations: One per round that made one.
        cases: Of all rounds.
        rounds: The ends of rounds.
        damaged: A sentence per line that is no record, such as a power cut leaves.
    """

    calibrations: Sequence[CalibrationRecord] = field(default_factory=tuple)
    cases: Sequence[CaseRecord] = field(default_factory=tuple)
    rounds: Sequence[RoundRecord] = field(default_factory=tuple)
    damaged: Sequence[str] = field(default_factory=tuple)


def append(folder: Path, record: Record) -> None:
    """Append a record to the file in a training's output folder."""
    append_json_line(folder / FILE_NAME, {"kind": record.kind, **dataclasses.asdict(record)})


def remove(folder: Path) -> None:
    """Remove the records of an earlier training in the same folder; a resumed one keeps its own."""
    (folder / FILE_NAME).unlink(missing_ok=True)


def read(folder: Path) -> RoundLog:
    """Return the records of a training's output folder; the last making of a round counts. Empty without a file.

    A line that is no record of this version is passed over and told: a report must not die of one.

    Raises:
        UserError: If the file is no regular file.
    """
    found: dict[str, dict[Any, Record]] = {kind: {} for kind in RECORDS}
    damaged: list[str] = []
    for line in read_json_lines(folder / FILE_NAME, damaged):
        kind = line.pop("kind", None)
        if not isinstance(kind, str) or kind not in RECORDS:
            damaged.append(f"a line of the kind {shown(kind)}")
            continue
        try:
            record = read_record(RECORDS[kind], line, kind)
            if isinstance(record, CaseRecord):
                _check_case(record)
        except (RecordError, UserError) as error:
            damaged.append(str(error))
            continue
        if _begins_again(record, found):
            _forget(found[CaseRecord.kind], record.round)
            _forget(found[RoundRecord.kind], record.round)
        found[kind][record.round, getattr(record, "case", None)] = record
    return RoundLog(*(tuple(found[kind].values()) for kind in ("calibration", "case", "round")), tuple(damaged))


def _check_case(record: CaseRecord) -> None:
    """Refuse a name that is no case's, and lists of different lengths: figures of a round are made of them."""
    check_case_name(record.case, FILE_NAME)
    lists = (record.agreement, record.confidence, record.confident_share, record.prompts, record.rejected)
    numbers = [len(each) for each in (*lists, record.empty, record.weights)] + [len(record.histogram) - 1]
    bins = {len(each) for each in record.histogram}
    if any(number != len(record.names) for number in numbers) or bins != {HISTOGRAM_BINS}:
        raise UserError(f"the record of {record.case} in round {record.round} has lists of different lengths")


def _begins_again(record: Record, found: dict[str, dict[Any, Record]]) -> bool:
    """Return whether a record belongs to another making of a round than those that were found before."""
    if isinstance(record, CaseRecord):  # of a round that was finished already
        return (record.round, None) in found[RoundRecord.kind]
    return isinstance(record, RoundRecord) and not record.active


def _forget(records: dict[Any, Record], round_index: int) -> None:
    for key in [key for key in records if key[0] == round_index]:
        del records[key]


def record_from_json(cls: type[R], content: Mapping[str, Any]) -> R:
    """Return the record that ``dataclasses.asdict`` made ``content`` of, possibly written as json and read again.

    Raises:
        TypeError: If the fields are not those of the record.
        KeyError: Likewise.
    """
    values = {name: _tuples(value) for name, value in content.items()}
    if cls is CalibrationRecord:
        values["classes"] = tuple(record_from_json(ClassRecord, entry) for entry in content["classes"])
    return cls(**values)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(each) for each in value) if isinstance(value, list) else value
