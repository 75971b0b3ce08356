"""Settings of the class gate: when a class is active in unlabeled terms."""

from __future__ import annotations

from dataclasses import dataclass

from nnunet_semisam.errors import UserError
from nnunet_semisam.settings import SettingsBlock, setting, settings_block


@settings_block("gate", used=lambda settings: settings.run.method != "supervised")
@dataclass(frozen=True, kw_only=True)
class GateSettings(SettingsBlock):
    """When a class is active in unlabeled terms."""

    dice: float = setting(
        0.7,
        """Dice of the prompting network on labeled training patches from which a class weighs anything. Its weight
        rises linearly from 0 here to 1 at `dice + width`, and from `active_from` on it is active: by default at a Dice
        of 0.75. 0 makes every class active at once.""",
        low=0,
        high=1,
        source="docs/results.md, When the gate opens: at 0.8 thin structures keep it shut for long",
    )
    width: float = setting(0.1, "Dice from the threshold to full weight.", above=0, high=1)
    active_from: float = setting(
        0.5, "Weight from which a class is active; below, it is merged into the background.", above=0, high=1
    )
    start: str = setting(
        "all",
        """Whether unlabeled terms wait until `all` classes were active once, or start with `any`. A class that is not
        active, or no longer, is merged into the background; the others go on.""",
        choices=("all", "any"),
        source="docs/results.md: with `any`, 1,400 steps of one active class cost more than they gave",
    )
    area_factor: float = setting(
        2.0,
        """A class may take at most this many times the share of voxels that it has on labeled patches, and must take at
        least that share divided by it; beyond, its weight falls.""",
        low=1,
    )
    area_spread: float = setting(
        0.2,
        """Standard deviation of the positions of annotated slices, as a share of the volume, from which on partly
        annotated cases tell how much each class takes: 0.29 for slices that are spread evenly. Below, and for
        annotations that are no slices (scribbles), they give bounds only.""",
        low=0,
        high=0.5,
    )
    area_slices: int = setting(
        16,
        """Annotated slices in all, from which on partly annotated cases tell how much each class takes. The windows of
        few slices show the same voxels again and again, so that a chance share would look certain.""",
        low=1,
        source="true Hippocampus labels, a perfect teacher: with one slice of each of 2 to 8 cases, a class was "
        "switched off in 10 of 68 draws; with every third, fifth or tenth slice in none of 225",
    )
    measure_every: int = setting(
        10, "Steps between two measurements, on labeled patches and against the student.", low=1
    )
    patience: int = setting(
        10_000,
        """Steps after which nothing waits any longer for classes that were not active yet: unlabeled terms start with
        those that are. A class that the network never learns must not keep it from all others.""",
        low=1,
    )
    memory: float = setting(
        0.9, "Share of the old Dice counts of a class kept per measurement that shows it.", low=0, below=1
    )
    agreement_memory: float = setting(
        0.98,
        """Share of the old level of agreement kept per measurement. A class on which student and target agree less than
        they used to loses weight in proportion: whatever the labeled patches say, something happens to it on unlabeled
        ones. 1 keeps the first level for good, 0 switches this off.""",
        low=0,
        high=1,
        source="idea of the self and mutual consistency weights of SynFoC, https://arxiv.org/abs/2503.16997",
    )
    area_memory: float = setting(0.98, "Share of the old voxel counts kept per batch.", low=0, below=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        needed = self.dice + self.active_from * self.width
        if needed > 1 + 1e-9:
            raise UserError(
                f"The settings of the gate ask for a Dice of {needed:.3g} before a class is active (dice {self.dice:g} "
                f"+ active_from {self.active_from:g} * width {self.width:g}), and 1 is a perfect one: unlabeled cases "
                "would never be learned. Lower one of the three."
            )
