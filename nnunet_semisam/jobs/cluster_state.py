"""Whether jobs of a cluster still wait or run, also where SLURM's accounting is off, and how those ended that did.

submitit asks ``sacct`` alone. Of a job that ``sacct`` does not know, submitit says for ever that it may run.
"""

from __future__ import annotations

import subprocess
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

UNKNOWN = "UNKNOWN"
ENDED = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
}
QUEUE_TIMEOUT_SECONDS = 60
LOG_LINES = 30
AGAIN = "Start again to go on"
REMEDIES = {
    "OUT_OF_MEMORY": f"{AGAIN}, with more memory for each job, for example --slurm mem_gb=64.",
    "TIMEOUT": f"{AGAIN}, with more minutes for each job: --slurm timeout_min=...",
    "DEADLINE": f"{AGAIN}, with more minutes for each job: --slurm timeout_min=...",
}


def waits_or_runs(job: Any) -> bool | None:
    """Return whether a job has not ended; ``None`` if neither ``sacct`` nor ``squeue`` can tell."""
    if job.done(force_check=True):
        return False
    if not unknown([job]):
        return True
    states = queue([job.job_id])
    if states is None:
        return None
    return _in_queue(job, states)


def _in_queue(job: Any, states: dict[str, str]) -> bool:
    """Return whether a job waits or runs, by what ``squeue`` says; it forgets jobs that have ended."""
    return states.get(job.job_id, "COMPLETED") not in ENDED


def unknown(jobs: Sequence[Any]) -> list[Any]:
    """Return those jobs of SLURM that ``sacct`` did not know when it was asked last."""
    import submitit

    found = [job for job in jobs if isinstance(job, submitit.SlurmJob)]
    return [job for job in found if job.watcher.get_state(job.job_id, mode="cache") == UNKNOWN]


def lost(jobs: Sequence[Any]) -> list[Any]:
    """Return those jobs that ``sacct`` does not know and that have left the queue."""
    not_known = unknown(jobs)
    if not not_known:
        return []
    numbers = [job.job_id for job in not_known]
    states = queue(numbers)
    if states is None:
        warnings.warn(
            f"Neither sacct nor squeue tells whether jobs still run ({', '.join(numbers)}). This command waits for "
            "their results. If they have ended, stop it, delete their job.json and start again.",
            stacklevel=2,
        )
        return []
    return [job for job in not_known if not _in_queue(job, states) and not job.done()]


def queue(numbers: Sequence[str]) -> dict[str, str] | None:
    """Return the states of those jobs that SLURM's queue knows; ``None`` if it cannot be asked.

    Args:
        numbers: Jobs, or elements of arrays such as ``7_3``.
    """
    arrays = dict.fromkeys(number.split("_")[0] for number in numbers)
    command = ["squeue", "--noheader", "--array", "--states=all", "--format=%i %T", "--jobs", ",".join(arrays)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=QUEUE_TIMEOUT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return {} if "invalid job id" in done.stderr.lower() else None
    states: dict[str, str] = {}
    for line in done.stdout.splitlines():
        number, _, state = line.strip().partition(" ")
        if state:
            states[number] = state.split()[0]
    return states


def why_ended(job: Any, error: Exception | None = None) -> str:
    """Return what is known of a job that gave no result: the end of its log and, as last line, what to do.

    Args:
        job: The job.
        error: What submitit raised for its result.
    """
    import submitit

    if isinstance(error, submitit.core.utils.FailedJobError):  # an error in the job itself, told with its traceback
        log = str(error)
        state = "TIMEOUT" if "timed-out too many times" in log else "FAILED"
    else:
        log = f"{job.paths.stderr}:\n{_end(job.paths.stderr)}"
        state = next(iter(str(job.state).split()), UNKNOWN)
    remedy = REMEDIES.get(state, f"{AGAIN}.")
    return f"{log}\nJob {job.job_id} ended without a result ({state}). {remedy}"


def _end(log: Path) -> str:
    try:
        return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:])
    except OSError:
        return "no such file"
