"""The console command's public surface, frozen: scripts of users depend on names and options."""

import argparse
import os
import shlex
import subprocess
import sys

import pytest

from nnunet_semisam import __version__, cli
from nnunet_semisam.errors import UserError

CONVERTER = ["--dataset-id", "--input", "--labeled", "--leave-out", "-d", "-i", "-np"]
MODEL = ["--checkpoint", "--device", "--disable_tta", "--out", "--trainer"]
MODEL += ["-c", "-chk", "-d", "-device", "-o", "-p", "-tr"]
SURFACE = {
    "benchmark": [
        "--cases",
        "--deep",
        "--device",
        "--dry-run",
        "--equal",
        "--executor",
        "--folds",
        "--gpus",
        "--labeled",
        "--out",
        "--processes",
        "--seeds",
        "--settings",
        "--slurm",
        "--test-set",
        "--trainers",
        "-c",
        "-d",
        "-device",
        "-f",
        "-np",
        "-o",
        "-p",
        "-tr",
    ],
    "convert acdc": sorted([*CONVERTER, "--seed", "--split"]),
    "convert bhsd": sorted([*CONVERTER, "--intensities", "--unlabeled", "--val"]),
    "convert la": sorted([*CONVERTER, "--format", "--val"]),
    "convert nnunet": sorted([*CONVERTER, "--group", "--name", "--order", "--seed", "--test", "--val"]),
    "convert sparse": sorted(
        [*CONVERTER, "--every", "--group", "--name", "--order", "--seed", "--slice-seed", "--test", "--val"]
    ),
    "demo": ["--acdc", "--device", "--folder", "--overwrite", "--steps", "-device", "-o"],
    "doctor": ["--deep", "--fold", "--trainer", "-c", "-d", "-f", "-p", "-tr"],
    "export": [
        "--checkpoint",
        "--folds",
        "--keep-optimizer",
        "--out",
        "--trainer",
        "-c",
        "-chk",
        "-d",
        "-f",
        "-o",
        "-p",
        "-tr",
    ],
    "plan-mini": [
        "--batch2d",
        "--batch3d",
        "--features",
        "--name",
        "--overwrite",
        "--patch2d",
        "--patch3d",
        "-d",
        "-p",
    ],
    "predict": sorted([*MODEL, "--continue_prediction", "--folds", "--uncertainty", "-f", "-i"]),
    "preprocess": ["--verify_dataset_integrity", "-c", "-d", "-np", "-p", "-plans_name"],
    "pseudo-labels export": sorted([*MODEL, "--cases", "--fold", "--source", "-f"]),
    "pseudo-labels import": ["--name", "-d", "-i", "-np"],
    "register": [],
    "report": ["--csv", "--input", "--markdown", "--out", "-i", "-o"],
    "sam adapt": [
        "--device",
        "--fold",
        "--model",
        "--out",
        "--steps",
        "-c",
        "-d",
        "-device",
        "-f",
        "-o",
        "-p",
    ],
    "sam calibrate": [
        "--checkpoint",
        "--csv",
        "--device",
        "--estimated-dice",
        "--fold",
        "--json",
        "--model",
        "--trainer",
        "-c",
        "-chk",
        "-d",
        "-device",
        "-f",
        "-p",
        "-tr",
    ],
    "sam download": [],
    "sam evaluate": [
        "--adapter",
        "--axis",
        "--cases",
        "--channel",
        "--checkpoint",
        "--csv",
        "--data",
        "--device",
        "--model",
        "--seed",
        "-chk",
        "-d",
        "-device",
    ],
    "sam list": [],
    "sam pretrain": [
        "--curriculum",
        "--data",
        "--device",
        "--images",
        "--learning-rate",
        "--out",
        "--prompts",
        "--seed",
        "--steps",
        "--synthetic-share",
        "--validate-every",
        "--window-steps",
        "--workers",
        "-d",
        "-device",
        "-o",
    ],
    "self-train": [
        "--device",
        "--dry-run",
        "--executor",
        "--final-trainer",
        "--folds",
        "--gpus",
        "--label-jobs",
        "--no-mirroring",
        "--no-sam",
        "--out",
        "--processes",
        "--rounds",
        "--sam",
        "--select",
        "--settings",
        "--slurm",
        "--threshold",
        "--total-epochs",
        "--trainer",
        "-c",
        "-d",
        "-device",
        "-f",
        "-np",
        "-o",
        "-p",
        "-tr",
    ],
    "split": [
        "--group",
        "--labeled",
        "--order",
        "--overwrite",
        "--plans-name",
        "--replan",
        "--seed",
        "--val",
        "-d",
        "-np",
    ],
    "suggest": sorted(
        [*MODEL, "--beta", "--cases", "--class-share", "--fold", "--rule", "--sam", "--seed", "-f", "-n"]
    ),
    "trainers-path": [],
    "unregister": [],
}


def surface(parser, prefix=""):
    """Return sub-command -> its options, without --help, for every parser that has no sub-commands."""
    found = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                found |= surface(child, f"{prefix} {name}".strip())
    if not found:
        options = [text for action in parser._actions for text in action.option_strings if text not in ("-h", "--help")]
        found[prefix] = sorted(options)
    return found


def test_names_and_options_are_the_published_ones():
    assert surface(cli.build_parser()) == SURFACE, "a changed name breaks scripts: say so in CHANGELOG.md"


def parsers(parser, prefix="nnunet-semisam"):
    yield prefix, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield from parsers(child, f"{prefix} {name}")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help_and_an_example_that_is_understood(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([name, "--help"])
    assert stopped.value.code == 0
    (example,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("example: ")]
    command = example.removeprefix("example: ").replace('"', "").split("$(")[-1].rstrip(")").split()
    assert command[:2] == ["nnunet-semisam", name]
    cli.build_parser().parse_args(command[1:])


def test_examples_of_sub_commands_are_one_line_that_is_understood():
    found = 0
    for name, parser in parsers(cli.build_parser()):
        if parser.epilog is None or len(name.split()) < 3:
            continue
        (line,) = [line for line in parser.format_help().splitlines() if line.startswith("example: ")]
        command = shlex.split(line.removeprefix("example: "))
        assert " ".join(command).startswith(name)
        cli.build_parser().parse_args(command[1:])
        found += 1
    assert found >= 8, "converters, and verbs of sam"


def test_every_option_has_a_help_text():
    silent = [
        f"{name} {action.option_strings or action.dest}"
        for name, parser in parsers(cli.build_parser())
        for action in parser._actions
        if not action.help and not isinstance(action, argparse._SubParsersAction)
    ]
    assert silent == []


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("benchmrk -d 1", "did you mean benchmark?"),
        ("sam lsit", "did you mean list?"),
        ("report -i folder --markdwn", "Instead of --markdwn, did you mean --markdown?"),
        ("split -d 1 --labelled 3", "Instead of --labelled, did you mean --labeled?"),
        ("sam evaluate -d 27 --model vitb", "did you mean vit_b?"),
        ("doctor -d27 --depe", "Instead of --depe, did you mean --deep?"),
        ("demo --quickly", "There is no option --quickly."),
    ],
)
def test_a_mistyped_word_is_answered_with_the_one_that_was_meant(line, meant, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(line.split())
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert meant in message
    assert len(message.splitlines()) == 2, "what is wrong, and where help is"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("preprocess -d 27 28 -plans_name P", {"datasets": ["27", "28"], "plans": "P"}),
        ("plan-mini -d 27 28", {"datasets": ["27", "28"]}),
        ("doctor -d 27 28 -tr T -f 0", {"datasets": ["27", "28"], "trainer": "T", "fold": "0"}),
        ("export -d 1 -c 2d -o m -chk checkpoint_best.pth -f 0 all", {"folds": ["0", "all"]}),
        ("benchmark -d 1 -c 2d -tr T -f 0 1 -device cpu -o b", {"trainers": ["T"], "folds": [0, 1], "device": "cpu"}),
        ("self-train -d 1 -c 2d -tr T -device cuda -o s", {"trainer": "T", "device": "cuda"}),
        ("sam evaluate -d 1 -chk w.pt -device cpu", {"data": "1", "checkpoint": "w.pt", "device": "cpu"}),
    ],
)
def test_spellings_of_nnunet_are_understood(line, expected):
    args = vars(cli.build_parser().parse_args(line.split()))
    assert {name: args[name] for name in expected} == expected


@pytest.mark.parametrize("line", ["--help", "trainers-path", "sam list", "benchmark --help", "demo --help"])
def test_light_commands_load_neither_torch_nor_nnunet(line):
    code = (
        "import sys; from nnunet_semisam import cli\n"
        "try:\n    cli.main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'nnunetv2', 'SimpleITK', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code, *line.split()], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_version_is_printed(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize(
    ("outcome", "status"), [(None, 0), (1, 1), (UserError("Fix this."), 2), (KeyboardInterrupt(), 130)]
)
def test_exit_status_tells_what_happened(outcome, status, monkeypatch, capsys):
    def run(args):
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr("nnunet_semisam.commands.doctor.run", run)
    assert cli.main(["doctor"]) == status
    message = capsys.readouterr().err
    assert (message.startswith("nnunet-semisam doctor: ")) == (status > 1)
    assert "Traceback" not in message


def test_a_mistake_of_ours_is_not_hidden(monkeypatch):
    def run(args):
        raise ZeroDivisionError

    monkeypatch.setattr("nnunet_semisam.commands.doctor.run", run)
    with pytest.raises(ZeroDivisionError):
        cli.main(["doctor"])


@pytest.mark.parametrize(
    ("number", "words"),
    [(28, r"Make room"), (13, "right to it"), (30, "right to it"), (20, "Name a folder"), (36, "shorter name")],
)
def test_what_the_disk_refuses_is_no_traceback(monkeypatch, capsys, number, words):
    def run(args):
        raise OSError(number, os.strerror(number), "/some/file")

    monkeypatch.setattr("nnunet_semisam.commands.doctor.run", run)
    assert cli.main(["doctor"]) == 2
    message = capsys.readouterr().err
    assert "'/some/file'" in message
    assert words in message


def test_another_error_of_the_system_is_not_hidden(monkeypatch):
    def run(args):
        raise OSError("of our own")

    monkeypatch.setattr("nnunet_semisam.commands.doctor.run", run)
    with pytest.raises(OSError, match="of our own"):
        cli.main(["doctor"])


def test_commands_of_nnunet_are_named_to_who_looks_for_them_here(capsys):
    assert cli.main(["train", "101", "3d_fullres", "0"]) == 2
    assert "nnUNetv2_train 27 3d_fullres 0 -tr nnUNetTrainerSemiSAM" in capsys.readouterr().err
    assert not cli.STOCK.keys() & cli.COMMANDS.keys()


def test_a_variable_that_is_not_set_is_said_before_torch_is_imported(tmp_path):
    lines = [
        "preprocess -d 1",
        "suggest -d 1 -c 2d -o out",
        "pseudo-labels export -d 1 -c 2d -o out",
        "predict -i in -o out -d 1 -c 2d",
        "self-train -d 1 -c 2d -o out",
        "benchmark -d 1 -c 2d -o out --trainers nnUNetTrainerSemiSAM --labeled 1",
    ]
    code = f"""
import sys
from nnunet_semisam import cli
for line in {lines!r}:
    assert cli.main(line.split()) == 2, line
    assert "torch" not in sys.modules, line
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("nnUNet_")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(" is not set. Say: export nnUNet_") == len(lines)
