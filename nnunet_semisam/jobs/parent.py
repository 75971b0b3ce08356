"""A command ends when the process that started it has ended.

Nobody would collect what it makes, and the next start would write to the same folder at the same time.
"""

from __future__ import annotations

import os
import signal
import threading
import time

PARENT = "nnUNet_semisam_parent"  # the process that started the command, as it told the command itself
WATCH_SECONDS = 0.2


def end_with_parent() -> None:
    """End this process and all of its group as soon as its parent is gone, or now if it is gone already.

    Its present parent does not tell: of an orphan that is whoever took it over. On Windows nothing is watched: a
    process there keeps the number of its parent, and the python of a virtual environment starts a second one.
    """
    if os.name == "nt":
        return
    parent = int(os.environ.pop(PARENT, os.getppid()))
    _check(parent)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while True:
        time.sleep(WATCH_SECONDS)
        _check(parent)


def _check(parent: int) -> None:
    if os.getppid() != parent:
        os.killpg(os.getpgid(0), signal.SIGKILL)
