"""What of a benchmark could not be used, noted while it is read, so that a page is made of the rest and says so."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_semisam.errors import printable

MOST_NAMED = 4  # of a kind, in a sentence
MOST_CHARACTERS = 240  # of the reason for one


@dataclass
class Damage:
    """A note for everything that was left out, each once however often it is met.

    Attributes:
        folder: Of the benchmark: notes name files relative to it, since a page must not tell whose machine made it.
    """

    folder: Path = field(default_factory=Path)
    _notes: dict[str, dict[str, str]] = field(default_factory=dict)

    def note(self, kind: str, place: str, why: object = "") -> None:
        """Remember that something was left out.

        Args:
            kind: What it is, in the plural: ``training logs``.
            place: Which one.
            why: An error or a sentence.
        """
        reason = " ".join(without_folders(str(why), self.folder).split()).rstrip(".")
        self._notes.setdefault(kind, {}).setdefault(place, reason)

    def __len__(self) -> int:
        return sum(len(places) for places in self._notes.values())

    def sentences(self) -> list[str]:
        """Return a sentence per kind: how many were left out, and the first ones with the reasons."""
        found = []
        for kind, places in self._notes.items():
            named = [
                f"{printable(place)} ({printable(why, MOST_CHARACTERS)})" if why else printable(place)
                for place, why in list(places.items())[:MOST_NAMED]
            ]
            more = f"; and {len(places) - MOST_NAMED} more" if len(places) > MOST_NAMED else ""
            found.append(f"Left out, since it cannot be used: {kind}, {len(places)}: {'; '.join(named)}{more}.")
        return found


def without_folders(text: str, folder: Path) -> str:
    """Return a message without the path of the benchmark, of nnU-Net's folders and of the user's home."""
    known = [(str(folder), "")]
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        known.append((os.environ.get(name, ""), f"${name}"))
    known.append((str(Path.home()), "~"))
    for path, short in known:
        path = path.rstrip("/")
        if len(path) > 1:
            text = text.replace(f"{path}/", f"{short}/" if short else "")
            text = text.replace(path, short or "the benchmark's folder")
    return text
