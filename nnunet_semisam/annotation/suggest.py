"""Which unlabeled cases to annotate next: look at all of them, rank them, show where to look.

======================================  =============================================================================
``suggestions.csv``                     the ranking: rank, case, score, reason
``suggestions.html``                    the same with the slices that matter, one file
``maps/CASE_entropy.nii.gz``            uncertainty on the voxels of the image; ``_disagreement`` and ``_prediction``
``cases/CASE.json``                     what was found out about a case; a second run looks at no case again
======================================  =============================================================================
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nnunet_semisam.annotation.evidence import Looked, SecondOpinion, ask_sam, features_of, look_at
from nnunet_semisam.annotation.raw_space import NIFTI, check_axes, check_viewable, segmentation, to_raw, write_like
from nnunet_semisam.annotation.suggestions import RULES, CaseEvidence, Request, Suggestion
from nnunet_semisam.annotation.suggestions.base import check_count
from nnunet_semisam.errors import UserError, name_some
from nnunet_semisam.io.atomic import remove_temporaries
from nnunet_semisam.io.csv_files import write_table
from nnunet_semisam.io.hashes import sha256_of
from nnunet_semisam.io.json_files import read_object, write_json
from nnunet_semisam.io.locks import folder_lock
from nnunet_semisam.io.typed_records import RecordError, read_record
from nnunet_semisam.runs.raw_images import ModelPlace, RawCase, RawImagePredictor

TABLE, PAGE = "suggestions.csv", "suggestions.html"
MAPS, CASES, LABELED = "maps", "cases", "labeled_features.json"
KINDS = ("entropy", "disagreement")
REMEDY = "Delete it, and run the same command again."


@dataclass(frozen=True)
class LabeledFeatures:
    """What the network sees in the images of labeled cases.

    Attributes:
        model: SHA-256 of the checkpoints.
        images: SHA-256 of each image file of each case.
        features: Case -> its features.
    """

    model: str
    images: dict[str, list[str]]
    features: dict[str, list[float]]


@dataclass(frozen=True)
class CaseNote:
    """What is kept of a case between runs.

    Attributes:
        model: SHA-256 of the checkpoints.
        sam: Name of the SAM that was asked, or empty.
        mirroring: Whether mirrored images were looked at.
        images: SHA-256 of each image file.
        evidence: What was found out.
    """

    model: str
    sam: str
    mirroring: bool
    images: list[str]
    evidence: CaseEvidence


@dataclass(frozen=True)
class Options:
    """How cases are looked at.

    Attributes:
        device: ``cuda``, ``cpu`` or ``mps``.
        mirroring: Whether mirrored images are looked at.
        sam: Name of a SAM to ask; empty: none.
    """

    device: str
    mirroring: bool = True
    sam: str = ""


class Suggester:
    """Looks at the unlabeled cases of a fold and ranks them.

    No label is opened: of the pool there are image files only.

    Args:
        place: A trained model.
        images: Unlabeled case -> image files.
        output: Folder to write to.
        options: How cases are looked at.

    Raises:
        UserError: If the model is missing or damaged, or images cannot be written as NIfTI.
    """

    def __init__(self, place: ModelPlace, images: Mapping[str, Sequence[str]], output: Path, options: Options) -> None:
        self.images, self.output, self.options = images, output, options
        self.digest = place.sha256()
        self.model = RawImagePredictor(place, options.device, options.mirroring)
        check_viewable(self.model)
        check_axes(files[0] for files in images.values())
        for folder in (MAPS, CASES):
            (output / folder).mkdir(parents=True, exist_ok=True)

    def look(self) -> list[CaseEvidence]:
        """Return what is known about each case; those that an earlier run looked at are not predicted again.

        Raises:
            UserError: If an image cannot be read, or ``output`` holds what another model or SAM said.
        """
        with folder_lock(self.output, wait=True):
            remove_temporaries(self.output / MAPS)
            found = {case: self._known(case) for case in self.images}
            todo = [case for case, evidence in found.items() if evidence is None]
            second = ask_sam(self.options.sam, self.model, self.options.device) if todo and self.options.sam else None
            for case in tqdm(todo, desc="looking", unit="case", leave=False, disable=not sys.stderr.isatty()):
                found[case] = self._look_at(case, second)
        return [found[case] for case in self.images]

    def labeled_features(self, labeled: Mapping[str, Sequence[str]]) -> list[list[float]]:
        """Return the features of the images of labeled cases, in their order; kept for the next run.

        Args:
            labeled: Case -> image files.
        """
        file = self.output / LABELED
        images = {case: [sha256_of(Path(image)) for image in files] for case, files in labeled.items()}
        if file.is_file():
            kept = read_record(LabeledFeatures, read_object(file, REMEDY), f"{file}:")
            if (kept.model, kept.images) == (self.digest, images):
                return list(kept.features.values())
        features = {}
        for case in tqdm(labeled, desc="labeled", unit="case", leave=False, disable=not sys.stderr.isatty()):
            features[case] = features_of(self.model.read(labeled[case]), self.model)
        write_json(file, asdict(LabeledFeatures(self.digest, images, features)))
        return list(features.values())

    def _known(self, case: str) -> CaseEvidence | None:
        file = self.output / CASES / f"{case}.json"
        if not file.is_file():
            return None
        try:
            note = read_record(CaseNote, read_object(file, REMEDY), f"{file}:")
        except RecordError as error:
            raise UserError(f"{error} {REMEDY}") from error
        if (note.model, note.sam, note.mirroring) != (self.digest, self.options.sam, self.options.mirroring):
            raise UserError(
                f"{self.output} holds what another model or SAM said of {case} (most rules ask no SAM). Choose another "
                "folder with -o."
            )
        maps = (map_file(self.output, case, kind) for kind in (*KINDS, "prediction"))
        if note.images != self._image_hashes(case) or not all(file.is_file() for file in maps):
            return None  # it is looked at again
        return note.evidence

    def _image_hashes(self, case: str) -> list[str]:
        return [sha256_of(Path(file)) for file in self.images[case]]

    def _look_at(self, case: str, second: SecondOpinion | None) -> CaseEvidence:
        read = self.model.read(self.images[case])
        looked = look_at(case, read, self.model, second)
        self._write_maps(case, read, looked)
        note = CaseNote(
            self.digest, self.options.sam, self.options.mirroring, self._image_hashes(case), looked.evidence
        )
        write_json(self.output / CASES / f"{case}.json", asdict(note))  # last: the maps are there
        return looked.evidence

    def _write_maps(self, case: str, read: RawCase, looked: Looked) -> None:
        reference = self.images[case][0]
        for kind in KINDS:
            values = to_raw(self.model, read, getattr(looked.uncertainty, kind).numpy()).clip(0, 1).astype(np.float32)
            write_like(values, reference, map_file(self.output, case, kind))
        label = segmentation(self.model, read, looked.logits)
        write_like(label, reference, map_file(self.output, case, "prediction"))


def map_file(output: Path, case: str, kind: str) -> Path:
    """Return the file of a map of a case: ``entropy``, ``disagreement`` or ``prediction``."""
    return output / MAPS / f"{case}_{kind}{NIFTI}"


def rank(evidence: Sequence[CaseEvidence], rule: str, request: Request) -> list[Suggestion]:
    """Return the suggested cases, the most wanted first.

    Raises:
        UserError: If there is no such rule, or it lacks what it ranks by; if more cases are wanted than there are.
    """
    check_count(evidence, request)
    return RULES.get(rule)(evidence, request)


def write_ranking(output: Path, ranking: Sequence[Suggestion]) -> Path:
    """Write ``suggestions.csv`` and return its path."""
    rows = [{"rank": rank + 1, **asdict(each)} for rank, each in enumerate(ranking)]
    write_table(output / TABLE, ["rank", "case", "score", "reason"], rows)
    return output / TABLE


def as_text(ranking: Sequence[Suggestion], pool: int, rule: str) -> str:
    """Return the ranking as lines for a terminal."""
    width = max(len(each.case) for each in ranking)
    lines = [f"{len(ranking)} of {pool} unlabeled cases, by {rule}:"]
    lines += [
        f"{rank + 1:3d}  {each.case:{width}}  {each.score:8.3f}  {each.reason}" for rank, each in enumerate(ranking)
    ]
    lines.append(f"annotate: {name_some([each.case for each in ranking])}")
    return "\n".join(lines)
