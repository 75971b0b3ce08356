"""Run a stock nnU-Net command in this process, and write down time, memory, machine and software.

Called by ``runs.py`` as ``python -m nnunet_semisam.benchmark.measured REPORT.json train|predict ARGUMENTS``. The
report (an :class:`~nnunet_semisam.benchmark.records.Attempt`) is renewed while the command runs, so that the hours of
a run that was killed are not lost.
"""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from nnunet_semisam.benchmark.records import Attempt, Software
from nnunet_semisam.benchmark.versions import environment_settings, sam_fingerprints, versions
from nnunet_semisam.io.json_files import write_json
from nnunet_semisam.jobs.parent import end_with_parent
from nnunet_semisam.jobs.threads import limit_threads

WRITE_SECONDS = 10.0


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
            peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
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
    """Run ``train`` or ``predict`` with nnU-Net's own arguments."""
    end_with_parent()
    report, stage, *arguments = argv
    limit_threads()
    device = arguments[arguments.index("-device") + 1] if "-device" in arguments else None
    with Meter(Path(report), stage, device):
        if stage == "train":
            from nnunetv2.run.run_training import run_training_entry as command
        else:
            from nnunetv2.inference.predict_from_raw_data import predict_entry_point as command
        sys.argv = [f"nnUNetv2_{stage}", *arguments]
        command()


if __name__ == "__main__":
    main(sys.argv[1:])
