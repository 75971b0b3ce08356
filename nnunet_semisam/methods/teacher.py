"""Methods whose targets come from a moving average of the student."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from nnunet_semisam.methods.base import Host, SSLMethod
from nnunet_semisam.methods.parts.ema import MovingAverage
from nnunet_semisam.methods.settings import MethodSettings
from nnunet_semisam.settings import setting

HORIZON_SHARE, SHORTEST_HORIZON, LONGEST_HORIZON = 0.004, 100, 1000  # of the teacher's memory; the last two in steps


@dataclass(frozen=True, kw_only=True)
class TeacherSettings(MethodSettings):
    """The settings of methods with a moving-average teacher."""

    ema_decay: float | None = setting(
        None,
        """Share of the old teacher kept per step; the first steps use `1 - 1 / (step + 1)`. null remembers 0.4 % of the
        training, but 100 steps (0.99) to 1,000 steps (0.999): nnU-Net's momentum remembers 100, and a teacher that does
        so for 250,000 steps is the student.""",
        low=0,
        below=1,
        source="Tarvainen & Valpola 2017, section 3.1: 0.99 early and 0.999 late; SSL4MIS and SemiSAM: 0.99",
    )
    deploy: str = setting(
        "teacher",
        "Whose weights are validated, written as `network_weights` and used by `nnUNetv2_predict`.",
        choices=("teacher", "student"),
    )


def decay_of_length(steps: int) -> float:
    """Return the share of the old teacher kept per step of a training of so many steps."""
    return 1 - 1 / min(max(HORIZON_SHARE * steps, SHORTEST_HORIZON), LONGEST_HORIZON)


class TeacherMethod(SSLMethod):
    """Keeps ``self.teacher`` at the moving average of the student; it prompts generalists and is deployed by default.

    Source:
        Tarvainen & Valpola, NeurIPS 2017, https://arxiv.org/abs/1703.01780.
    """

    Settings = TeacherSettings
    teacher: MovingAverage

    def setup(self, student: nn.Module, host: Host) -> None:
        """Build the teacher as a copy of the student."""
        decay = self.settings.ema_decay
        self.teacher = MovingAverage(host.build_network(), decay_of_length(host.steps) if decay is None else decay)
        self.teacher.copy_from(student)

    def on_train_start(self, student: nn.Module) -> None:
        """Copy the student again: pretrained weights arrive after the setup."""
        self.teacher.copy_from(student)

    def after_step(self, student: nn.Module) -> None:
        """Move the teacher towards the student."""
        self.teacher.update(student)

    def prompting_network(self, student: nn.Module) -> nn.Module:
        """Return the teacher."""
        return self.teacher.network

    def inference_network(self, student: nn.Module) -> nn.Module:
        """Return the teacher, or the student if the settings say so."""
        return self.teacher.network if self.settings.deploy == "teacher" else student

    def state_parts(self) -> dict[str, Any]:
        """Return the teacher."""
        return {"teacher": self.teacher}
