"""A command that is killed at a chosen write, as by a power cut, in a process of its own."""

import os
import signal
from collections.abc import Callable


def killed_at_write(number: int, command: Callable[[], object]) -> bool:
    """Run a command in a forked process that is killed just before its write ``number`` is flushed or renamed.

    Returns:
        Whether it was killed; a command with fewer writes ends by itself, and must do so without an error.
    """
    process = os.fork()
    if process == 0:
        left = [number]

        def dying(function: Callable) -> Callable:
            def call(*args: object) -> object:
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1
                return function(*args)

            return call

        os.fsync, os.replace = dying(os.fsync), dying(os.replace)
        status = 1
        try:
            command()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0
    return False
