"""What power cuts, half downloads and malicious senders do to the folder of a benchmark, one function each."""

import json
import os
import re

import numpy as np
import SimpleITK
from invented import write_image

CASES = [f"q{patient}_frame01" for patient in range(2)]


def edit(folder, function):
    path = folder / "results.json"
    content = json.loads(path.read_text())
    function(content)
    path.write_text(json.dumps(content))


def run(folder, index=-1):
    return json.loads((folder / "results.json").read_text())["runs"][index]


def training(folder, index=-1):
    return folder / run(folder, index)["training"]


def prediction(folder, case, index=-1):
    return folder / run(folder, index)["predictions"] / f"{case}.nii.gz"


def image(folder, case):
    return folder / "held_out/test/images" / f"{case}_0000.nii.gz"


def replace_rows(folder, pattern, text, count=0):
    path = folder / "results.csv"
    content = path.read_bytes().decode()
    changed = re.sub(pattern, text, content, count=count)
    assert changed != content
    path.write_bytes(changed.encode())


def round_line(folder, index, **changes):
    path = training(folder) / "semisam_rounds.jsonl"
    lines = path.read_text().splitlines()
    lines[index] = json.dumps({**json.loads(lines[index]), **changes})
    path.write_text("\n".join(lines) + "\n")


def fifo(path):
    path.unlink()
    os.mkfifo(path)


def link_out(path):
    target = path.parents[len(path.parents) - 4] / f"elsewhere_{path.name}"
    path.rename(target)
    path.symlink_to(target)


RUN_FIELDS = [
    ("seed", "0", "seed must be a whole number"),
    ("fold", 1e400, "fold must be a whole number"),
    ("budget", -3, "budget must be between 0"),
    ("status", "lost", "status must be one of"),
    ("software", "x", "software must be a list"),
    ("train_hours", float("nan"), "train_hours must be between|train_hours must be finite"),
    ("gpu_hours", -1, "gpu_hours must be between"),
    ("attempts", True, "attempts must be a whole number"),
    ("peak_memory_bytes", "big", "peak_memory_bytes must be a whole number"),
    ("training", "../../../etc", "training cannot be '../../../etc': it leads out of the folder"),
    ("training", "/etc", "it leads out of the folder"),
    ("training", "C:\\x", "it leads out of the folder"),
    ("predictions", "runs/../..", "it leads out of the folder"),
    ("trainer", "../x", "trainer cannot be '../x'"),
    ("trainer", "nnUNetTrainerUnknown", "its trainer or configuration is none of the grid"),
    ("fold", 77, "its fold or seed is none of the grid"),
    ("budget", 2, "its budget is 2"),
    ("error", 5, "error must be a text"),
]


def summary_without_interval(content):
    for one in content["summary"]:
        if one["difference"]:
            one["difference"]["low"] = None


ENTRIES = {
    "a run that is a text": (lambda c: c["runs"].__setitem__(1, "x"), r"runs\[1\] must be an object"),
    "a run that is there twice": (lambda c: c["runs"].append(c["runs"][1]), "it is there twice"),
    "a cost that is a list": (lambda c: c["cost"].__setitem__(0, []), r"cost\[0\] must be an object"),
    "a mean that is infinite": (lambda c: c["summary"][0].update(mean=float("inf")), r"summary\[0\].mean must be"),
    "a dice of 7": (lambda c: c["summary"][0].update(mean=7), "7 is no such measurement"),
    "an unknown metric": (lambda c: c["summary"][0].update(metric="f1"), "its metric or unit is unknown: f1"),
    "half an interval": (summary_without_interval, "it lacks an end of its interval"),
    "a mean that is there twice": (lambda c: c["summary"].append(c["summary"][0]), "it is there twice"),
    "a held-out case that is not listed": (
        lambda c: c["cases"]["groups"].pop(CASES[0]),
        f"those of {CASES[0]}, which is no held-out case",
    ),
    "a run that is not done": (lambda c: c["runs"][1].update(status="started"), "which is not done by results.json"),
}
ROWS = {
    "a number that is a word": (
        r",1,0\.\d+,0\.\d+,ok",
        ",1,high,high,ok",
        "value must be a number or empty, got 'high'",
    ),
    "NaN": (r",1,0\.\d+,0\.\d+,ok", ",1,nan,nan,ok", "value must be between|value must be finite"),
    "a dice of 5000": (r",1,0\.\d+,0\.\d+,ok", ",1,5000,5000,ok", "5000 is no such measurement"),
    "another status": (r",ok\r", ",fine\r", "status must be one of"),
    "a path as a case": (CASES[0], "../../etc/passwd", "case cannot be '../../etc/passwd'"),
    "a row too short": (r",ok\r", "\r", "13 cells, the table has 14 columns"),
    "one row less": (r"\n[^\n]*,hd95,[^\n]*\n", "\n", "it lacks scores, or has one twice"),
    "another patient": (r",q0,", ",q9,", "which is of q9, and of q0 by results.json"),
}


def write(name, text):
    return lambda folder: (training(folder) / name).write_bytes(text if isinstance(text, bytes) else text.encode())


def write_plans(text):
    return lambda folder: (training(folder, 0).parent / "plans.json").write_text(text)


def vector(path):
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((5, 40, 44, 2), np.uint8), isVector=True), str(path))


def shorten(path):
    write_image(np.random.default_rng(0).normal(0, 9, (5, 40, 44)).astype(np.float32), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def each(path_of, function):
    return lambda folder: [function(path_of(folder, case)) for case in CASES]


def four_axes(path):
    SimpleITK.WriteImage(SimpleITK.JoinSeries([SimpleITK.ReadImage(str(path))] * 2), str(path))


FILES = {
    "a log that is a pipe": (lambda f: fifo(next(training(f).glob("training_log*"))), "is a pipe"),
    "a log that leads out": (lambda f: link_out(next(training(f).glob("training_log*"))), "leads out of the benchmark"),
    "terms without epochs": (write("semisam_log.csv", "a,b\n1,2\n"), "lacks the column 'epoch'"),
    "terms that are words": (write("semisam_log.csv", "epoch,a\n1,high\n"), "1 of its rows"),
    "terms of epoch 1e300": (write("semisam_log.csv", "epoch,a\n1e300,1\n"), "the epoch 1e300"),
    "terms that are noise": (write("semisam_log.csv", b"epoch\xff\x80"), "is no text in UTF-8"),
    "terms that are empty": (write("semisam_log.csv", ""), "lacks the column 'epoch'"),
    "a round that is noise": (write("semisam_rounds.jsonl", b"\x80\xff{\n"), "line 1 is no json object"),
    "a round with words": (
        lambda f: round_line(f, 1, agreement=["high", None]),
        r"case.agreement\[0\] must be a number",
    ),
    "a round in another order": (lambda f: round_line(f, 3, round="0"), "round.round must be a whole number"),
    "a calibration of words": (lambda f: round_line(f, 0, classes=[{}]), r"calibration.classes\[0\] lacks 'name'"),
    "settings that lead out": (
        lambda f: link_out(training(f, 0) / "semisam_config.yaml"),
        "leads out of the benchmark",
    ),
    "plans that are a list": (write_plans("[]"), "must hold an object, got list"),
    "plans with commands": (
        write_plans('{"configurations": {"2d": {"patch_size": ["$(id)"]}}}'),
        r"2d.patch_size\[0\] must be a whole number",
    ),
    "leaks that are torn": (lambda f: (f / "leakage.json").write_text("{"), "leakage.json cannot be read as json"),
    "labels of words": (
        lambda f: (prediction(f, "x", 0).parent / "dataset.json").write_text('{"labels": {"RV": "x"}}'),
        r"labels\['RV'\] must be a list",
    ),
    "images that are pipes": (each(image, fifo), "is a pipe"),
    "images that are cut off": (each(image, shorten), "cut off|ended before"),
    "images of four axes": (each(image, four_axes), "images of 2 or 3 axes can be shown"),
    "predictions of another size": (
        each(prediction, lambda path: write_image(np.zeros((5, 40, 45), np.uint8), path)),
        "has the size 45 x 40 x 5, its image 44 x 40 x 5",
    ),
    "predictions that are gone": (each(prediction, lambda path: path.unlink()), "No such file"),
    "predictions that are pipes": (each(prediction, fifo), "is a pipe"),
    "predictions that are fractions": (
        each(prediction, lambda path: write_image(np.full((5, 40, 44), 1.5, np.float32), path)),
        "holds numbers that are no labels",
    ),
    "predictions that are vectors": (each(prediction, vector), "has 2 numbers per voxel"),
    "predictions that lead out": (each(prediction, link_out), "leads out of the benchmark"),
}
