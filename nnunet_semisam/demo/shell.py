"""Run the commands that a user types, show them, and keep what they say in log files."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from nnunet_semisam.errors import UserError
from nnunet_semisam.jobs import processes

OWN_COMMAND = "nnunet-semisam"


class Shell:
    """Runs commands; the first that fails ends the demo.

    Args:
        folder: Working folder; logs go to ``folder/logs``.
        variables: Environment variables on top of the caller's; they are shown as ``export`` lines.
    """

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self.logs = folder / "logs"
        self.logs.mkdir(parents=True)
        self.environment = dict(os.environ)
        for name, value in variables.items():
            self.export(name, value)

    def export(self, name: str, value: str) -> None:
        """Set an environment variable of the commands from now on, and show it."""
        self.environment[name] = value
        print(f"$ export {name}={shlex.quote(value)}")

    def run(self, *command: str | Path) -> None:
        """Run one command line.

        Raises:
            UserError: If it fails; the message holds the end of its output and names the log.
        """
        self.run_together(command)

    def run_together(self, *commands: Sequence[str | Path]) -> None:
        """Run command lines side by side, and wait for all of them.

        Raises:
            UserError: If one fails, after the others were ended; the message holds the end of its output and names
                the log.
        """
        lines = [[str(word) for word in command] for command in commands]
        background = " &" if len(lines) > 1 else ""
        for line in lines:
            print(f"$ {shlex.join(line)}{background}", flush=True)
        if background:
            print("$ wait", flush=True)
        start = time.perf_counter()
        first = len(list(self.logs.iterdir())) + 1
        logs = [self.logs / f"{number:02d}_{line[0]}.log" for number, line in enumerate(lines, first)]
        with ThreadPoolExecutor(len(lines)) as pool:
            try:
                for ended in as_completed([pool.submit(self._run, *each) for each in zip(lines, logs, strict=True)]):
                    ended.result()
            except BaseException:  # the pool waits for all that it has begun
                processes.stop_all()
                raise
        print(f"  done in {time.perf_counter() - start:.0f} s", flush=True)

    def _run(self, line: Sequence[str], log: Path) -> None:
        guarded = [sys.executable, "-m", "nnunet_semisam.jobs.guard", *executable(line)]
        status = processes.run_logged(guarded, self.environment, log)
        if status != 0:
            end = processes.end_of(log)
            raise UserError(
                f"{shlex.join(line)} ended with status {status}. Its last lines:\n{end}\nAll of them are in {log}. Run "
                "`nnunet-semisam doctor` to see what stops it, then the demo again with --overwrite."
            )


def executable(words: Sequence[str]) -> list[str]:
    """Return a command line with the program's full path, preferring the environment of this interpreter.

    Raises:
        UserError: If there is no such program.
    """
    here = str(Path(sys.executable).parent)
    program = shutil.which(words[0], path=here)
    if program is None and words[0] == OWN_COMMAND:  # a checkout on PYTHONPATH: never another installation's program
        return [sys.executable, "-m", "nnunet_semisam.cli", *words[1:]]
    program = program or shutil.which(words[0])
    if program is None:
        raise UserError(f"There is no program {words[0]}; nnU-Net brings it. Install: pip install 'nnunetv2>=2.8,<3'")
    return [program, *words[1:]]
