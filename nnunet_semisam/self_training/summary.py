"""A round in a sentence: how many pseudo-labels it trains on, how sure and how good they may be."""

from __future__ import annotations

import statistics

from nnunet_semisam.io.json_files import object_or_none
from nnunet_semisam.io.typed_records import RecordError, read_record
from nnunet_semisam.self_training.rounds import PROVENANCE_FILE, PseudoLabel, RoundOfFold, SAMUse


def summary_of(place: RoundOfFold) -> str | None:
    """Return the summary of a round's dataset; ``None`` if it is not there."""
    content = object_or_none(place.data / PROVENANCE_FILE)
    try:
        entries = dict((content or {})["pseudo_labels"])
        chosen = [read_record(PseudoLabel, entry, "") for entry in entries.values() if entry["chosen"]]
    except (KeyError, TypeError, ValueError, RecordError):
        return None
    if not chosen:
        return None
    labeled = statistics.fmean(record.labeled_share for record in chosen)
    text = f"{len(chosen)} of {len(entries)} cases of the pool, {100 * labeled:.1f} % of their voxels labeled"
    agreements = [record.agreement for record in chosen if record.agreement is not None]
    if agreements:
        text += f", agreement with and without mirroring {statistics.fmean(agreements):.3f}"
    use = chosen[0].sam
    if use is not None:
        text += f", {_sams(use)}"
    return text


def _sams(use: SAMUse) -> str:
    """Return which SAMs took part in which classes."""
    found = [f"{name} in {label}" for name, each in use.class_weights.items() for label, w in each.items() if w > 0]
    return f"SAM in classes: {', '.join(found)}" if found else "SAM in no class"
