"""When there are rounds of pseudo-labels, and how many cases they have: what the training can afford."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from nnunet_semisam import ranks
from nnunet_semisam.context import TrainingContext


@dataclass(frozen=True)
class RoundPlan:
    """How often there is a round, and how many cases it has.

    Attributes:
        refresh_epochs: Epochs between two rounds.
        cases_per_refresh: Cases of a round.
        cases_at_first: Cases of the first round.
        case_share: What a case of a round computes, as a share of what the whole training computes without rounds.
    """

    refresh_epochs: int
    cases_per_refresh: int
    cases_at_first: int
    case_share: float = field(default=0.0, compare=False)

    @classmethod
    def of(cls, context: TrainingContext, windows_per_case: float) -> RoundPlan:
        """Return what the settings say, or what costs about the share of the training that they allow.

        Args:
            context: The training.
            windows_per_case: Patches that the sliding window takes for a case.
        """
        run, sam = context.settings.run, context.settings.block("sam")
        batch_size = sum(ranks.gathered(context.batch_size))  # of all processes: all must plan the same rounds
        predictions_per_case = 1 + sam.mirror + sam.generalist_cost

        def forwards(epochs: int) -> int:
            return sam.forwards_per_patch * epochs * run.num_iterations_per_epoch * batch_size

        def affordable(epochs: int) -> int:
            return max(1, int(sam.compute_share * forwards(epochs) / (predictions_per_case * windows_per_case)))

        refresh_epochs = sam.refresh_epochs or max(1, run.num_epochs // sam.rounds_per_training)
        cases_per_refresh = sam.cases_per_refresh or affordable(refresh_epochs)
        case_share = predictions_per_case * windows_per_case / forwards(run.num_epochs)
        return cls(refresh_epochs, cases_per_refresh, max(cases_per_refresh, affordable(run.num_epochs)), case_share)

    def largest_share(self, context: TrainingContext, cases: int) -> float:
        """Return what all rounds together compute at most, as a share of the training; calibrations come on top.

        Args:
            context: The training.
            cases: Unlabeled cases there are.
        """
        run, sam = context.settings.run, context.settings.block("sam")
        rounds = math.ceil((run.num_epochs - math.ceil(sam.start * run.num_epochs)) / self.refresh_epochs)
        if rounds == 0:
            return 0.0
        predicted = min(self.cases_at_first, cases) + (rounds - 1) * min(self.cases_per_refresh, cases)
        return predicted * self.case_share
