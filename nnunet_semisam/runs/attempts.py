"""What every start of a command leaves: time, memory, machine and software. See ``measured.py``, which writes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnunet_semisam.io.json_files import object_or_none
from nnunet_semisam.io.typed_records import Amount, Count, RecordError, read_record

TRAIN, PREDICT, LABEL = "train", "predict", "label"


@dataclass(frozen=True)
class Software:
    """What a number rests on besides the code of the trainer.

    Attributes:
        versions: Package -> version.
        variables: Environment variables that change how nnU-Net works.
        sam_fingerprints: Digests of the SAM weights that made pseudo-labels; on record from the first round on.
    """

    versions: dict[str, str]
    variables: dict[str, str]
    sam_fingerprints: list[str]

    def continues(self, before: Software) -> bool:
        """Return whether this is the software of ``before``, of which only more is known by now."""
        same = self.versions == before.versions and self.variables == before.variables
        return same and set(before.sam_fingerprints) <= set(self.sam_fingerprints)


@dataclass(frozen=True)
class Attempt:
    """One start of a command of a run: a file in ``attempts/``.

    Attributes:
        stage: ``train``, ``predict``, or ``label``: the prediction of images without labels, to train on.
        seconds: How long it ran, by the clock.
        peak_memory_bytes: Of the main process, without workers; ``None`` where the system does not tell (Windows).
        peak_gpu_bytes: Of its GPU; ``None`` without one.
        gpu: Name of the GPU, if it used one.
        host: Name of the machine.
        device: nnU-Net's ``-device``.
        software: What it ran with.
    """

    stage: str
    seconds: Amount
    peak_memory_bytes: Count | None
    peak_gpu_bytes: Count | None
    gpu: str | None
    host: str
    device: str | None
    software: Software

    def to_json(self) -> dict[str, Any]:
        """Return all fields, those of the software among them."""
        content = asdict(self)
        software = content.pop("software")
        return {**content, **software}

    @classmethod
    def from_json(cls, content: Any) -> Attempt:
        """Return the attempt of a file."""
        return read_record(cls, content, "", software=read_record(Software, content, ""))


def read_attempts(folder: Path) -> list[Attempt]:
    """Return the reports of all starts of a run.

    One that cannot be read, after a power cut for example, is left out: its hours are lost, nothing else is.
    """
    attempts = []
    for path in sorted((folder / "attempts").glob("[!.]*.json")):
        try:
            attempts.append(Attempt.from_json(object_or_none(path) or {}))
        except RecordError:
            continue
    return attempts


def software_of(attempts: Sequence[Attempt]) -> list[Software]:
    """Return the software of a run's training, once, or more often if it changed between starts."""
    found: list[Software] = []
    for attempt in attempts:
        if attempt.stage == TRAIN:
            now = attempt.software
            found = [*(before for before in found if not now.continues(before)), now]
    return found
