"""A prior from labeled cases: what is connected there is connected in a pseudo-label, too.

A network that is trained further on its own predictions grows what it invents: a component somewhere in the body that
looks like a ventricle, confirmed by a SAM that knows edges but no anatomy. nnU-Net removes such components after
prediction where keeping the largest one helps; here they are removed before anything is learned from them, and their
voxels become background.

Shapes in this file: ``F`` foreground classes or regions, volumes ``(Z, Y, X)``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import cc3d
import numpy as np

from nnunet_semisam.labels import Labels
from nnunet_semisam.settings import SettingsBlock, setting, settings_block


@settings_block("connectivity", used=lambda settings: settings.run.use_sam)
@dataclass(frozen=True, kw_only=True)
class ConnectivitySettings(SettingsBlock):
    """Which components of a pseudo-label are spurious."""

    expected: str = setting(
        "auto",
        """`auto`: a structure is expected to be one component if it is in every labeled case. `always`: every class is
        (anatomy such as the chambers of a heart). `never`: nothing is expected (lesions, vessels).""",
        choices=("auto", "always", "never"),
    )
    min_patients: int = setting(
        4,
        """With `auto`, labeled patients from which on a spurious component is taught as background; with fewer it is
        ignored. By Laplace's rule of succession, a structure that is one component in each of n patients has two in
        1 of n + 2.""",
        low=1,
    )
    share: float = setting(
        0.98,
        "Share of the voxels in the largest component from which a structure counts as connected.",
        above=0,
        high=1,
    )
    neighbours: int = setting(
        26,
        "Neighbours of a voxel that count as connected: thick slices meet at corners.",
        choices=(6, 18, 26),
    )


@dataclass(frozen=True)
class ConnectivityPrior:
    """Which structures are expected to be connected.

    Attributes:
        whole: Whether all foreground together is.
        classes: Which foreground channels are; all False for overlapping regions.
        certain: Whether a spurious component is background; if not, nothing is known about its voxels.
        settings: The block ``connectivity``.
    """

    whole: bool
    classes: tuple[bool, ...]
    certain: bool = True
    settings: ConnectivitySettings = field(default_factory=ConnectivitySettings)

    @classmethod
    def without_cases(cls, labels: Labels, settings: ConnectivitySettings) -> ConnectivityPrior | None:
        """Return what is expected where no case is annotated throughout: what the settings say, and else nothing."""
        if settings.expected != "always" or labels.has_regions:
            return None
        return cls(False, (True,) * labels.channels, True, settings)

    @classmethod
    def from_cases(
        cls,
        label_maps: Iterable[np.ndarray],
        labels: Labels,
        patients: int,
        settings: ConnectivitySettings | None = None,
    ) -> ConnectivityPrior | None:
        """Look at labeled cases; a structure that no case shows may be anything.

        Args:
            label_maps: Of labeled cases, ``(Z, Y, X)`` each.
            labels: What the channels mean.
            patients: How many patients these cases are of.
            settings: The block ``connectivity``.

        Returns:
            The prior; ``None`` if by the settings nothing is expected.
        """
        settings = settings or ConnectivitySettings()
        if settings.expected == "never":
            return None
        verdicts = []  # per case: of all foreground together, then of each channel
        for label in label_maps:
            members = [labels.members(label, f) for f in range(labels.channels)]
            structures = (np.any(members, axis=0), *members)
            verdicts.append([is_connected(mask, settings) for mask in structures])
        whole, *classes = (_always(column) for column in zip(*verdicts, strict=True))
        always = settings.expected == "always"
        return cls(
            whole,
            tuple((connected or always) and not labels.has_regions for connected in classes),
            always or patients >= settings.min_patients,
            settings,
        )

    def spurious(self, label: np.ndarray, labels: Labels, largest: Sequence[float]) -> np.ndarray:
        """Return the foreground voxels outside of the component that they should belong to.

        Args:
            label: Label map, ``(Z, Y, X)``.
            labels: What the channels mean.
            largest: Voxels that each channel has at most in labeled cases. A component is judged by the voxels that it
                gives each class, counted up to this number: a huge component of one class must not win over a heart.

        Returns:
            ``(Z, Y, X)``, bool.
        """
        spurious = np.zeros(label.shape, dtype=bool)
        members = [labels.members(label, f) for f in range(labels.channels)]
        if self.whole:
            spurious |= self._outside_best(np.any(members, axis=0), members, largest)
        for member, connected in zip(members, self.classes, strict=True):
            if connected:
                left = member & ~spurious
                spurious |= self._outside_best(left, [left], [np.inf])
        return spurious

    def _outside_best(self, mask: np.ndarray, members: Sequence[np.ndarray], limits: Sequence[float]) -> np.ndarray:
        """Return ``mask`` without its best component: that of the most member voxels, each class up to its limit."""
        numbered, count = cc3d.connected_components(mask, connectivity=self.settings.neighbours, return_N=True)
        if count < 2:
            return np.zeros(mask.shape, dtype=bool)
        score = np.zeros(count + 1)
        for member, limit in zip(members, limits, strict=True):
            score += np.minimum(np.bincount(numbered[member & mask], minlength=count + 1), limit)
        score[0] = -1
        return mask & (numbered != score.argmax())


def is_connected(mask: np.ndarray, settings: ConnectivitySettings) -> bool | None:
    """Return whether the largest component holds nearly all of ``mask``; ``None`` if it is empty."""
    if not mask.any():
        return None
    counts = np.bincount(cc3d.connected_components(mask, connectivity=settings.neighbours).ravel())[1:]
    return bool(counts.max() >= settings.share * counts.sum())


def _always(verdicts: Sequence[bool | None]) -> bool:
    """Return whether the structure is connected in every case that shows it, and at least one case shows it."""
    seen = [verdict for verdict in verdicts if verdict is not None]
    return bool(seen) and all(seen)
