"""The command that gives the cases of a pool their pseudo-labels: nnU-Net's own predictor on raw images.

Called by ``tasks.py`` with the folder of the self-training, round, fold, part, number of parts, and ``-device``. No
label of the pool is opened: neither raw nor preprocessed files of it but images are. Where SAMs are asked, what they
are worth stands in the calibration of the round (``sam_calibration.py``), which all parts of the pool read.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nnunet_semisam.data.dataset_json import ignore_label
from nnunet_semisam.data.datasets import open_dataset
from nnunet_semisam.data.raw_files import image_files
from nnunet_semisam.data.written_images import written_image
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.hashes import sha256_of
from nnunet_semisam.io.json_files import write_json
from nnunet_semisam.self_training.pseudo_label import certainty, mean_confidence, with_ignore, with_sam
from nnunet_semisam.self_training.raw_dataset import voxels_per_label
from nnunet_semisam.self_training.rounds import PseudoLabel, RoundOfFold, read_place
from nnunet_semisam.self_training.sam_labels import SAMLabeller
from nnunet_semisam.self_training.tasks import LabelPool
from nnunet_semisam.self_training.teacher import Teacher


@dataclass(frozen=True)
class Labeller:
    """Who labels a pool.

    Attributes:
        teacher: The teacher of the round.
        digest: Digest of its checkpoint.
        sam: The SAMs that are asked; ``None``: the teacher labels alone.
    """

    teacher: Teacher
    digest: str
    sam: SAMLabeller | None


def label_cases(place: RoundOfFold, cases: Sequence[str], device: str) -> None:
    """Write the pseudo-labels of cases, and a record of each; cases that have theirs are left alone.

    Raises:
        UserError: If an image cannot be read, or SAMs are asked and were not calibrated.
    """
    plan = place.plan
    dataset = open_dataset(plan.dataset, plan.plans)
    files = image_files(dataset.raw, dataset.dataset_json)
    known = {**files["Ul"], **files["Tr"]}
    to_do = [case for case in cases if not place.is_labeled(case)]
    place.labels.mkdir(parents=True, exist_ok=True)
    model = place.before().model
    teacher, digest = Teacher(model, device, plan.mirroring), sha256_of(model.checkpoint)
    sam = SAMLabeller(place, teacher, digest, device) if plan.sam and to_do else None
    labeller = Labeller(teacher, digest, sam)
    for number, case in enumerate(to_do):
        if case not in known:
            raise UserError(f"{dataset.raw} lacks the image of {case}. Put it back.")
        print(f"{number + 1} of {len(to_do)}: {case}", flush=True)
        _label_case(place, case, known[case], labeller, dataset.dataset_json)


def _label_case(
    place: RoundOfFold, case: str, images: Sequence[str], labeller: Labeller, dataset_json: dict[str, Any]
) -> None:
    plan, ignore, teacher, sam = place.plan, ignore_label(dataset_json), labeller.teacher, labeller.sam
    found = teacher.predict(images)
    certain = certainty(found.probabilities, teacher.model.labels)
    label = with_ignore(found.label_map, certain, plan.threshold, ignore)
    opinion = None if sam is None else sam.opinion(case, found)
    if opinion is not None:
        threshold = sam.use.confidence_threshold
        label = with_sam(label, found.label_map, opinion, sam.active, teacher.model.labels, threshold, ignore)
    target = place.label_file(case, dataset_json["file_ending"])
    with written_image(target) as temporary:
        teacher.model.plans.image_reader_writer_class().write_seg(label, str(temporary), found.properties)
    record = PseudoLabel(
        case=case,
        round=place.index,
        teacher=plan.trainer_of(place.index - 1),
        checkpoint_sha256=labeller.digest,
        mirroring=teacher.mirrors,
        threshold=plan.threshold,
        agreement=found.agreement,
        confidence=mean_confidence(found.label_map, certain),
        voxels=voxels_per_label(label, ignore),
        sha256=sha256_of(target),
        sam=None if sam is None else sam.use,
    )
    write_json(place.labels / f"{case}.json", asdict(record))


def main() -> None:
    """Label a part of the pool; the words of the command line are those that ``tasks.py`` gives."""
    folder, index, fold, part, parts, _, device = sys.argv[1:]
    try:
        place = read_place(folder, index, fold)
        label_cases(place, LabelPool(place, int(part), int(parts)).cases(), device)
    except UserError as error:
        sys.exit(str(error))
