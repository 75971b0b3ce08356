"""``benchmarks/gpu/run.sh``: pack and unpack what a bare machine lacks, and measure; see README.md."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from benchmarks.gpu import packing
from benchmarks.gpu.pieces import TINY, Lengths, chosen, tasks
from benchmarks.gpu.runner import DONE, RESULT_FILE, Record, bring_home, machine_of, run_tasks
from benchmarks.gpu.summary import as_text, summary
from nnunet_semisam.errors import UserError

MOST_MINUTES = 9.0
CHECK_FOLDER = "check"  # of tiny runs and those on a CPU, which must not count as measurements
COMMANDS = ("run", "list", "pack", "unpack")


def state_folder() -> Path:
    """Return where everything is kept on this machine."""
    return Path(os.environ["NNUNET_SEMISAM_GPU"]).absolute()


def measure(args: argparse.Namespace) -> None:
    """Go on with the pieces."""
    root = state_folder()
    state = root / CHECK_FOLDER if args.tiny or args.device != "cuda" else root
    state.mkdir(parents=True, exist_ok=True)
    record = Record.open(state / RESULT_FILE, args.earlier)
    wanted = chosen(tasks(args.device, TINY if args.tiny else Lengths(), root / "data", state / "work"), args.pieces)
    machine = machine_of(root, args.device)
    run_tasks(wanted, record, state, 60 * args.minutes, machine, lambda line: print(line, flush=True))
    record.write()
    if args.out is not None:
        bring_home(state, args.out)
    print(as_text(summary(record.tasks)))
    left = [task.name for task in wanted if record.status(task) != DONE]
    print(f"Left: {', '.join(left)}" if left else "All is done.")


def show(args: argparse.Namespace) -> None:
    """Print every task and how far it is."""
    state = state_folder()
    record = Record.open(state / RESULT_FILE)
    for task in tasks("cuda", Lengths(), state / "data", state / "work"):
        print(f"{task.name}: {record.status(task) or 'not begun'}")


def pack(args: argparse.Namespace) -> None:
    """Write the parts."""
    preprocessed = None if args.data is None else packing.prepare(args.data, args.out / "work", args.unlabeled)
    for folder in packing.pack(args.out, preprocessed, args.wheels, args.megabytes):
        size = sum(file.stat().st_size for file in folder.iterdir())
        print(f"{folder}: {size / packing.MEGABYTE:.1f} MB, {', '.join(sorted(f.name for f in folder.iterdir()))}")


def unpack(args: argparse.Namespace) -> None:
    """Install and unpack parts."""
    for folder in args.parts:
        packing.unpack(folder, state_folder())


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="run.sh", description=__doc__)
    verbs = parser.add_subparsers(dest="command", required=True)
    run = verbs.add_parser("run", help="go on with the first piece that is not done (default)")
    run.add_argument("pieces", nargs="*", help="only these pieces or tasks")
    run.add_argument("--out", type=Path, help="folder that results are copied to")
    run.add_argument("--minutes", type=float, default=MOST_MINUTES, help="time for this call (default: %(default)s)")
    run.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    run.add_argument("--tiny", action="store_true", help="tiny lengths: does everything run?")
    run.add_argument("--earlier", type=Path, help=f"a {RESULT_FILE} of an earlier machine: what it has done is kept")
    run.set_defaults(verb=measure)
    verbs.add_parser("list", help="print all tasks and how far they are").set_defaults(verb=show)
    packer = verbs.add_parser("pack", help="write archives for a machine without downloads")
    packer.add_argument("--out", type=Path, required=True, help="folder for part_1, part_2, ...")
    packer.add_argument("--data", type=Path, help="ACDC in its authors' layout (the folder that holds training/)")
    packer.add_argument("--wheels", type=Path, help="folder with wheels of what the machine lacks")
    packer.add_argument("--megabytes", type=float, default=50.0, help="most that a part weighs (default: %(default)s)")
    packer.add_argument("--unlabeled", type=int, default=packing.UNLABELED_PATIENTS, help="unlabeled patients")
    packer.set_defaults(verb=pack)
    unpacker = verbs.add_parser("unpack", help="install and unpack parts on the machine with the GPU")
    unpacker.add_argument("parts", type=Path, nargs="+")
    unpacker.set_defaults(verb=unpack)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run a command; without one, go on measuring."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or (argv[0] not in COMMANDS and argv[0] not in ("-h", "--help")):
        argv = ["run", *argv]
    args = build_parser().parse_args(argv)
    try:
        args.verb(args)
    except UserError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
