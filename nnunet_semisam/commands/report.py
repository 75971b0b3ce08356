"""``nnunet-semisam report``: a benchmark as one page, as a table for a README, or as csv."""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunet_semisam.errors import UserError

HELP = "Make one self-contained HTML page of a benchmark, or a markdown or csv table."
EXAMPLE = "nnunet-semisam report -i benchmark -o report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("-i", "--input", type=Path, required=True, metavar="FOLDER", help="--out of the benchmark")
    parser.add_argument(
        "-o", "--out", type=Path, metavar="FILE", help="file to write (default: report.html, .md or .csv in FOLDER)"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="write a table for a README instead of the page")
    form.add_argument("--csv", action="store_true", help="write the summary in long format instead of the page")


def run(args: argparse.Namespace) -> None:
    """Write the form that the options name."""
    from nnunet_semisam.report.reading.benchmark_folder import read_benchmark

    benchmark = read_benchmark(args.input)
    ending = ".html"
    if args.markdown:
        ending = ".md"
    elif args.csv:
        ending = ".csv"
    path = args.out or args.input / f"report{ending}"
    if path.is_dir():
        raise UserError(f"-o {path} is a folder. Name a file, for example {path / f'report{ending}'}.")
    try:
        size = write(benchmark, path, ending)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error}). Choose another -o.") from error
    print(f"Wrote {path} ({size / 1e6:.1f} MB).")


def write(benchmark: object, path: Path, ending: str) -> int:
    """Write one of the three forms; return its size in bytes."""
    from nnunet_semisam.io.atomic import write_bytes
    from nnunet_semisam.report.long_csv import long_csv
    from nnunet_semisam.report.markdown import markdown
    from nnunet_semisam.report.page import write_page

    if ending == ".html":
        return write_page(benchmark, path)
    text = markdown(benchmark) if ending == ".md" else long_csv(benchmark)
    content = text.encode("utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content)
    return len(content)
