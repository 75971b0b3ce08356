"""Look for trainers as nnU-Net does, in a process of its own; started by ``trainers.py``.

nnU-Net's search imports every module on its way, whoever wrote it: one may print, end the process, close its output or
never return. So the answers go to a copy of the output that no module knows, one json line per name.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from nnunet_semisam.checks.findings import cause_of


def main(argv: Sequence[str]) -> None:
    """Answer for every name; after some seconds say where the process hangs, and end."""
    seconds, *names = argv
    answers = os.dup(1)
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(silence, stream)
    import nnunetv2.utilities.find_objects  # noqa: F401  nnU-Net and torch take as long as the disk lets them

    import nnunet_semisam.training.trainer  # noqa: F401

    faulthandler.dump_traceback_later(float(seconds), file=answers, exit=True)
    warnings.simplefilter("ignore")
    for name in names:
        os.write(answers, (json.dumps({"name": name, **look_for(name)}) + "\n").encode())
    os._exit(0)  # what a module leaves running, or registers for the end, must not keep this process


def look_for(name: str) -> dict[str, Any]:
    """Return what a trainer is: ``error``, or whether it is of our kind and has settings of our type."""
    try:
        from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

        found = recursive_find_trainer_class_by_name(name)
    except BaseException as error:  # SystemExit and KeyboardInterrupt of a module included
        return {"error": cause_of(error)}
    from nnunet_semisam.settings import Settings
    from nnunet_semisam.training.trainer import SemiSupervisedTrainer

    ours = issubclass(found, SemiSupervisedTrainer)
    return {"error": "", "ours": ours, "has_settings": ours and isinstance(found.settings, Settings)}


if __name__ == "__main__":
    main(sys.argv[1:])
