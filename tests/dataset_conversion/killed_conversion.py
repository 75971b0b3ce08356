"""A conversion that kills its process; ``test_killed_conversion.py`` calls it in a process of its own."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sys
from collections.abc import Callable


def convert(moment: int, words: list[str]) -> None:
    """Run a command that kills this process at the call ``moment`` of all that write; print how many there were."""
    from nnunet_semisam.commands.convert import load_package

    load_package()
    from nnunet_semisam import cli

    calls = itertools.count(1)

    def counted(function: Callable) -> Callable:
        def call(*args: object, **kwargs: object) -> object:
            if next(calls) == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    for owner, names in ((shutil, ("copyfile",)), (os, ("fsync", "replace", "rename", "mkdir"))):
        for name in names:
            setattr(owner, name, counted(getattr(owner, name)))
    status = cli.main(words)
    print("calls:", next(calls) - 1)
    sys.exit(status)
