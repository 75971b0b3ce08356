"""When there are rounds of pseudo-labels, and how many cases they have: what the training can afford."""

from __future__ import annotations

from dataclasses import dataclass

from nnunet_semisam import ranks
from nnunet_semisam.context import TrainingContext


@dataclass(frozen=True)
class RoundPlan:
    """How often there is a round, and how many cases it has.

    Attributes:
        refresh_epochs: Epochs between two rounds.
        cases_per_refresh: Cases of a round.
        cases_at_first: Cases of the first round.
    """

    refresh_epochs: int
    cases_per_refresh: int
    cases_at_first: int

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

        def affordable(epochs: int) -> int:
            forwards = sam.forwards_per_patch * epochs * run.num_iterations_per_epoch * batch_size
            return max(1, int(sam.compute_share * forwards / (predictions_per_case * windows_per_case)))

        refresh_epochs = sam.refresh_epochs or max(1, run.num_epochs // sam.rounds_per_training)
        cases_per_refresh = sam.cases_per_refresh or affordable(refresh_epochs)
        return cls(refresh_epochs, cases_per_refresh, max(cases_per_refresh, affordable(run.num_epochs)))
