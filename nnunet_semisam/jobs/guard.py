"""Run a command of somebody else that must not outlive the process that started it.

``python -m nnunet_semisam.jobs.guard COMMAND ...``, started by :mod:`nnunet_semisam.jobs.processes`. A command of ours
watches its parent itself (:mod:`nnunet_semisam.jobs.parent`).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from nnunet_semisam.jobs.parent import end_with_parent


def main(argv: Sequence[str]) -> int:
    """Run a command in the group of this process, and return its exit status."""
    end_with_parent()
    return subprocess.run(argv, check=False).returncode


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.exit(status if status >= 0 else 128 - status)
