"""A task on its way to a cluster: what submitit pickles, runs on a node, and submits again."""

from __future__ import annotations

import os
import time
from typing import Any

from nnunet_semisam.jobs import processes
from nnunet_semisam.jobs.base import Status, Task

OURS = ("nnUNet_", "NNUNET_")
MOST_STARTS = 5
SIGNAL_SECONDS = 30.0


class Submitted:
    """A task as a job; submitit submits it again if it is preempted or runs out of time.

    It takes nnU-Net's and our own variables of the environment along: some clusters start jobs without any.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.variables = {name: value for name, value in os.environ.items() if name.startswith(OURS)}

    def __call__(self) -> Status:
        """Carry the task out on the machine that got it.

        SLURM signals all processes of a job. A command may die of that before this process gets its signal, upon which
        submitit calls :meth:`checkpoint` and ends this process. If no signal comes, the task goes on in this job.
        """
        os.environ.update(self.variables)
        for _ in range(MOST_STARTS):
            status = self.task()
            if status != Status.STARTED:
                break
            time.sleep(SIGNAL_SECONDS)
        return status

    def checkpoint(self) -> Any:
        """Return what to submit in place of an interrupted job: the task finds its own state on disk.

        submitit calls it in a signal handler of the main thread, which is most likely waiting for a command.
        """
        import submitit

        processes.stop_all()
        return submitit.helpers.DelayedSubmission(self)
