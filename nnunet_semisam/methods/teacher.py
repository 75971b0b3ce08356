"""Methods whose targets come from a moving average of the student."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from nnunet_semisam.methods.base import Host, MethodSettings, SSLMethod
from nnunet_semisam.methods.parts.ema import MovingAverage
from nnunet_semisam.settings import setting


@dataclass(frozen=True, kw_only=True)
class TeacherSettings(MethodSettings):
    """The settings of methods with a moving-average teacher."""

    ema_decay: float = setting(
        0.99,
        "Share of the old teacher kept per step; the first steps use `1 - 1 / (step + 1)`.",
        low=0,
        below=1,
        source="Tarvainen & Valpola 2017, section 3.1; SSL4MIS and SemiSAM use the same",
    )
    deploy: str = setting(
        "teacher",
        "Whose weights are validated, written as `network_weights` and used by `nnUNetv2_predict`.",
        choices=("teacher", "student"),
    )


class TeacherMethod(SSLMethod):
    """Keeps ``self.teacher`` at the moving average of the student; it prompts generalists and is deployed by default.

    Source:
        Tarvainen & Valpola, NeurIPS 2017, https://arxiv.org/abs/1703.01780.
    """

    Settings = TeacherSettings
    teacher: MovingAverage

    def setup(self, student: nn.Module, host: Host) -> None:
        """Build the teacher as a copy of the student."""
        self.teacher = MovingAverage(host.build_network(), self.settings.ema_decay)
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
