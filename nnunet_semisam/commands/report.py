"""``nnunet-semisam report``: a benchmark as one page, as a table for a README, or as csv."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

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
    from nnunet_semisam.report.output import check_output, write_output
    from nnunet_semisam.report.reading.benchmark_folder import read_benchmark

    ending = ".html"
    if args.markdown:
        ending = ".md"
    elif args.csv:
        ending = ".csv"
    path = args.out or args.input / f"report{ending}"
    check_output(path, args.input, ending)
    benchmark = read_benchmark(args.input)
    size = write_output(_content(benchmark, ending), path)
    print(f"Wrote {path} ({size / 1e6:.1f} MB).")
    told = [*benchmark.damage.sentences(), *benchmark.contradictions]
    if told:
        print(f"Of this benchmark, {_things(len(benchmark.damage) + len(benchmark.contradictions))}:", file=sys.stderr)
        print("\n".join(f"  {sentence}" for sentence in told), file=sys.stderr)


def _things(how_many: int) -> str:
    return "1 thing could not be used" if how_many == 1 else f"{how_many} things could not be used"


def _content(benchmark: object, ending: str) -> bytes:
    """Return one of the three forms."""
    from nnunet_semisam.report.long_csv import long_csv
    from nnunet_semisam.report.markdown import markdown
    from nnunet_semisam.report.page import render

    make = {".html": render, ".md": markdown, ".csv": long_csv}[ending]
    return make(benchmark).encode("utf-8", errors="backslashreplace")
