"""Whether a benchmark's networks and trainings are of the size that published numbers come from.

The rule: published numbers need no caution where every network is as wide as nnU-Net's own (32 features in the first
stage or more) and every training took as many steps as the field's (30 000 or more). A narrow network or a short
training ranks trainers side by side; its level says nothing about the methods.
"""

from __future__ import annotations

from nnunet_semisam.report.reading.benchmark_folder import Benchmark
from nnunet_semisam.report.reading.plans import used_plans

NNUNET_FEATURES = 32  # nnU-Net's UNet_base_num_features, of plain and residual networks
FIELD_STEPS = 30_000  # max_iterations in the code that most of these publications build on


def limits(benchmark: Benchmark) -> list[str]:
    """Return why numbers of this benchmark must not be compared with published ones; nothing if they may."""
    found = []
    for configuration in benchmark.study.configurations:
        width = first_features(benchmark, configuration)
        if width is None:
            found.append(f"the plans of {configuration} are not beside the trainings, so its network is not known")
        elif width < NNUNET_FEATURES:
            found.append(
                f"the network of {configuration} is narrow: {width} features in its first stage, nnU-Net's own has "
                f"{NNUNET_FEATURES} or more"
            )
    steps = [run.steps for run in benchmark.runs if run.is_done and run.steps]
    if steps and min(steps) < FIELD_STEPS:
        found.append(f"trainings took {min(steps)} steps, those of the publications usually {FIELD_STEPS} or more")
    return found


def first_features(benchmark: Benchmark, configuration: str) -> int | None:
    """Return the features of a configuration's first stage, or ``None`` if no training has left its plans."""
    plans = used_plans(benchmark, configuration)
    if plans is None or not plans.features:
        return None
    return plans.features[0]
