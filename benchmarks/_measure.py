"""Interleaved timing, peak memory and tables, for all benchmarks."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch


@dataclass
class Timing:
    """Times of one variant, in seconds, one per round.

    Attributes:
        wall: By the clock on the wall.
        cpu: Processor time of this process, all threads; on a shared machine steadier than the clock on the wall.
    """

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Median by the clock on the wall."""
        return statistics.median(self.wall)

    @property
    def cpu_median(self) -> float:
        """Median processor time."""
        return statistics.median(self.cpu)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all it was asked to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def clock(work: Callable[[], object], device: torch.device, timing: Timing) -> None:
    """Run ``work`` once and add its time."""
    synchronize(device)
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    synchronize(device)
    timing.wall.append(time.perf_counter() - wall)
    timing.cpu.append(time.process_time() - cpu)


def interleave(
    variants: Mapping[str, Callable[[], object]], repeats: int, device: torch.device, warmup: int = 1
) -> dict[str, Timing]:
    """Time all variants in turns (A B C, B C A, ...), so that a change of the machine's load meets all of them.

    Args:
        variants: What to run, by name.
        repeats: Timed rounds.
        device: Where the work runs.
        warmup: Rounds before that are not timed.
    """
    timings = {name: Timing() for name in variants}
    for work in [*variants.values()] * warmup:
        work()
    names = list(variants)
    for i in range(repeats):
        first = i % len(names)
        for name in names[first:] + names[:first]:
            clock(variants[name], device, timings[name])
    return timings


def resident_bytes(peak: bool = False) -> int:
    """Return the memory of this process in bytes, now or at its peak.

    On Linux from ``/proc``: what ``getrusage`` calls the peak of a process includes its parent's, before ``exec``.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        name = "VmHWM:" if peak else "VmRSS:"
        line = next(line for line in status.read_text().splitlines() if line.startswith(name))
        return int(line.split()[1]) * 1024
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def verdict(value: float, bound: float, at_most: bool) -> str:
    """Return a ratio with its bound and whether it holds."""
    holds = value <= bound if at_most else value >= bound
    return f"{value:.3g} x (bound {'<=' if at_most else '>='} {bound:g} x: {'holds' if holds else 'MISSED'})"


def describe_machine(device: torch.device, threads: int) -> str:
    """Return one paragraph about the machine and the versions, for the record."""
    if device.type == "cuda":
        where = f"GPU: {torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    else:
        where = f"device {device.type}, no GPU used"
    load = f", load average {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "nnunetv2", "segment-anything"))
    return (
        f"{_processor()}, {os.cpu_count()} cores, {threads} thread(s){load}; {where}; "
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, {packages}"
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.is_file()
        else []
    )
    return names[0] if names else platform.processor()
