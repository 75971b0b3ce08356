"""Run a command of nnU-Net or of this package in this process, and write down time, memory, machine and software.

Called by ``model_run.py`` as ``python -m nnunet_semisam.runs.measured REPORT.json STAGE MODULE:FUNCTION ARGUMENTS``.
The report (an :class:`~nnunet_semisam.runs.attempts.Attempt`) is renewed while the command runs, so that the hours of a
run that was killed are not lost.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from nnunet_semisam.io.json_files import write_json
from nnunet_semisam.jobs.parent import end_with_parent
from nnunet_semisam.runs.attempts import Attempt, Software
from nnunet_semisam.runs.versions import environment_settings, sam_fingerprints, versions
from nnunet_semisam.threads import limit_threads

try:
    import resource
except ImportError:  # Windows
    resource = None

WRITE_SECONDS = 10.0


def peak_memory_bytes() -> int | None:
    """Return the largest resident memory of this process so far; ``None`` where the system does not tell."""
    if resource is None:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Meter:
    """Writes a report of this process again and again.

    Args:
        path: The json file.
        stage: What is being run.
        device: nnU-Net's ``-device``.
    """

    def __init__(self, path: Path, stage: str, device: str | None = None) -> None:
        self.path = path
        self.stage = stage
        self.device = device
        self.versions = versions()
        self.variables = environment_settings()
        self.start = time.perf_counter()
        self.started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.end = threading.Event()
        self.thread = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> Meter:
        self.write(False)
        self.thread.start()
        return self

    def __exit__(self, kind: type | None, *error: object) -> None:
        self.end.set()
        self.thread.join()
        exited_well = kind is SystemExit and not getattr(error[0], "code", None)
        self.write(kind is None or exited_well)

    def write(self, finished: bool) -> None:
        """Write the report, as a whole even if the power is cut."""
        write_json(self.path, {**self.measure().to_json(), "started": self.started, "finished": finished})

    def measure(self) -> Attempt:
        """Return what this process took so far."""
        torch = sys.modules.get("torch")
        with_gpu = torch is not None and hasattr(torch, "cuda") and torch.cuda.is_initialized()
        results = Path(os.environ.get("nnUNet_results") or os.devnull)
        return Attempt(
            stage=self.stage,
            seconds=time.perf_counter() - self.start,
            peak_memory_bytes=peak_memory_bytes(),
            peak_gpu_bytes=torch.cuda.max_memory_reserved() if with_gpu else None,
            gpu=torch.cuda.get_device_name() if with_gpu else None,
            host=platform.node(),
            device=self.device,
            software=Software(self.versions, self.variables, sam_fingerprints(results)),
        )

    def _renew(self) -> None:
        while not self.end.wait(WRITE_SECONDS):
            with contextlib.suppress(OSError):  # a full disk must not end a training
                self.write(False)


def main(argv: Sequence[str]) -> None:
    """Run the function with the arguments of a command line of its own."""
    end_with_parent()
    report, stage, entry, *arguments = argv
    limit_threads()
    device = arguments[arguments.index("-device") + 1] if "-device" in arguments else None
    with Meter(Path(report), stage, device):
        module, function = entry.split(":")
        command = getattr(importlib.import_module(module), function)
        sys.argv = [function, *arguments]
        command()


if __name__ == "__main__":
    main(sys.argv[1:])
