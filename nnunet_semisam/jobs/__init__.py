"""Carry out long work: one task after the other, several side by side, or as jobs of a SLURM cluster.

A :class:`~nnunet_semisam.jobs.base.Task` has a folder of its own and keeps its state there, so that it can be killed
at any moment and started again. Executors carry out many tasks and tell of each one that has ended; a task that fails
does not stop the others. Nothing in this package knows what the tasks are for.

==================  =================================================================================
module              content
==================  =================================================================================
``base``            :class:`Task`, :class:`Job` (a task that is one command line), :class:`Status`
``executors``       :func:`serial`, :func:`local` (several processes, which share GPUs and cores)
``cluster``         :func:`slurm`
``nnunet_command``  environment and device of nnU-Net's commands
``processes``       commands that do not outlive the process that started them
``parent``          the same, seen from the command: it ends when the process that started it is gone
==================  =================================================================================

Example:
    >>> import sys, tempfile
    >>> from pathlib import Path
    >>> from nnunet_semisam.jobs.base import Job
    >>> from nnunet_semisam.jobs.executors import serial
    >>> folder = Path(tempfile.mkdtemp()) / "first"
    >>> write = f"open({str(folder / 'answer.txt')!r}, 'w').write('42')"
    >>> job = Job("first", folder, (sys.executable, "-c", write), result=folder / "answer.txt")
    >>> job.status()
    <Status.NEW: 'new'>
    >>> serial([job], report=lambda name, status: print(f"{name}: {status}"))
    first: done
    >>> (folder / "answer.txt").read_text()
    '42'
"""
