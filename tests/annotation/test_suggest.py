"""``nnunet-semisam suggest`` on a model with random weights."""

import csv
import json

import numpy as np
import pytest
import SimpleITK
import tiny_nnunet
from fake_models import TRAINER
from hidden_labels import fill_hidden_labels_with_noise

from nnunet_semisam import cli
from nnunet_semisam.annotation.page import worst_slices, write_page
from nnunet_semisam.annotation.suggest import map_file
from nnunet_semisam.annotation.suggestions import RULES, Suggestion

POOL = sorted([*tiny_nnunet.SPLITS[0]["unlabeled"], *tiny_nnunet.UNLABELED])


def suggest(output, *more):
    words = ["suggest", "-d", "901", "-c", "2d", "-tr", TRAINER, "-o", str(output), "-device", "cpu", "-n", "2"]
    return cli.main([*words, *more])


def rows(output):
    with (output / "suggestions.csv").open() as file:
        return list(csv.DictReader(file))


def contents(output):
    return {file.relative_to(output): file.read_bytes() for file in output.rglob("*.json")} | {
        file.relative_to(output): SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(file))).tobytes()
        for file in output.rglob("*.nii.gz")
    }


def test_ranking_table_page_and_maps(model_folder, raw, tmp_path, capsys):
    """The hidden labels of this dataset cannot be read."""
    out = tmp_path / "out"
    assert suggest(out, "--rule", "entropy") == 0
    said = capsys.readouterr().out
    entropies = {case: json.loads((out / "cases" / f"{case}.json").read_text())["evidence"]["entropy"] for case in POOL}
    wanted = sorted(entropies, key=entropies.get, reverse=True)[:2]
    assert [row["case"] for row in rows(out)] == wanted
    assert f"annotate: {', '.join(wanted)}" in said
    for case in POOL:
        part = "imagesUl" if case in tiny_nnunet.UNLABELED else "imagesTr"
        image = SimpleITK.ReadImage(str(raw / part / f"{case}_0000.nii.gz"))
        for kind in ("entropy", "disagreement", "prediction"):
            found = SimpleITK.ReadImage(str(out / "maps" / f"{case}_{kind}.nii.gz"))
            assert (found.GetSize(), found.GetOrigin()) == (image.GetSize(), image.GetOrigin())
            assert found.GetDirection() == image.GetDirection()
    page = (out / "suggestions.html").read_text()
    assert page.count("data:image/png;base64,") == 2 * 3 * 2  # cases, slices, prediction and uncertainty
    assert all(case in page for case in wanted)
    assert "http" not in page

    # other rules look at no case again; what one lacks is made
    times = {file: file.stat().st_mtime_ns for file in (out / "maps").iterdir()}
    for rule in ("class_stratified", "random", "diversity"):
        assert suggest(out, "--rule", rule) == 0
        assert {row["case"] for row in rows(out)} <= set(POOL)
    assert {file: file.stat().st_mtime_ns for file in (out / "maps").iterdir()} == times
    features = json.loads((out / "labeled_features.json").read_text())["features"]
    assert sorted(features) == sorted([*tiny_nnunet.SPLITS[0]["train"], *tiny_nnunet.SPLITS[0]["val"]])
    capsys.readouterr()
    (out / "labeled_features.json").write_text('{"model": "x", "images": {}, "features": [1]}')
    assert suggest(out, "--rule", "diversity") == 2
    assert "labeled_features.json:.features must be an object" in capsys.readouterr().err
    assert suggest(out, "--rule", "disagreement") == 2
    assert "holds what another model or SAM said" in capsys.readouterr().err


def test_a_replaced_image_and_a_lost_map_are_looked_at_again(model_folder, raw, tmp_path):
    """What was wrong: outlines of the old image on the new one, or a traceback where it has fewer slices."""
    out, image = tmp_path / "out", raw / "imagesUl" / "free0_0000.nii.gz"
    assert suggest(out, "--rule", "entropy") == 0
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(image))[:, :, :5], str(image))
    (out / "maps" / "free1_entropy.nii.gz").unlink()
    times = {file.name: file.stat().st_mtime_ns for file in (out / "cases").iterdir()}
    assert suggest(out, "--rule", "entropy", "-n", str(len(POOL))) == 0
    changed = {file.name for file in (out / "cases").iterdir() if file.stat().st_mtime_ns != times[file.name]}
    assert changed == {"free0.json", "free1.json"}
    assert SimpleITK.ReadImage(str(out / "maps" / "free0_entropy.nii.gz")).GetSize()[2] == 5


def test_hidden_labels_have_no_influence(model_folder, raw, tiny_dataset, tmp_path):
    def all_rules(out):
        found = {}
        for rule in sorted({*RULES.names()} - {"disagreement"}):
            assert suggest(out, "--rule", rule, "--disable_tta") == 0
            found[rule] = rows(out)
        sam = ("--rule", "disagreement", "--cases", *tiny_nnunet.UNLABELED)
        assert suggest(out / "with_sam", *sam, "--disable_tta") == 0
        return found, rows(out / "with_sam"), contents(out)

    before = all_rules(tmp_path / "before")
    fill_hidden_labels_with_noise(tiny_dataset)
    assert all_rules(tmp_path / "after") == before


def test_model_and_folder_need_no_words_where_there_is_one_model(model_folder, raw, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["suggest", "-d", "901", "-tr", TRAINER, "-device", "cpu", "-n", "1", "--rule", "entropy", "--disable_tta"]
    assert cli.main(words) == 0
    out = tmp_path / f"suggestions_{tiny_nnunet.DATASET}"
    (row,) = rows(out)
    command = (
        f"nnunet-semisam pseudo-labels export -d 901 -c 2d -tr {TRAINER} -p nnUNetPlans -f 0 -o to_correct "
        f"--cases {row['case']}"
    )
    assert f"\n  {command}\n" in capsys.readouterr().out
    assert command in (out / "suggestions.html").read_text()


def test_of_several_models_that_fit_none_is_guessed(model_folder, raw, tmp_path, capsys):
    for name in ("3d_fullres", "3d_lowres"):
        (model_folder.parent / f"{TRAINER}__nnUNetPlans__{name}").mkdir()
    assert cli.main(["suggest", "-d", "901", "-tr", TRAINER, "-o", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert f"More than one model fits -tr {TRAINER} in " in said
    assert f"{TRAINER}__nnUNetPlans__2d, {TRAINER}__nnUNetPlans__3d_fullres" in said
    assert cli.main(["suggest", "-d", "901", "-tr", "nnUNetTrainerOther", "-o", str(tmp_path / "out")]) == 2
    assert "No model fits -tr nnUNetTrainerOther" in capsys.readouterr().err


def test_a_sam_is_asked_for_the_rule_disagreement(model_folder, raw, tmp_path):
    cases = tiny_nnunet.UNLABELED  # random weights predict hundreds of components, and the SAM is asked about each
    assert suggest(tmp_path / "out", "--rule", "disagreement", "--disable_tta", "--cases", *cases) == 0
    notes = [json.loads((tmp_path / "out" / "cases" / f"{case}.json").read_text()) for case in cases]
    assert {note["sam"] for note in notes} == {"nano"}
    dices = [dice for note in notes for dice in note["evidence"]["generalist_dice"] if dice is not None]
    assert dices
    assert 0 <= min(dices) <= max(dices) <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-n", "99"), "-n must be 1 to 5"),
        (("--cases", "free0"), "-n must be 1 to 1"),
        (("--cases", "case0", "free0"), "case0: no unlabeled case of fold 0"),
        (("--seed", "-1"), "--seed must be at least 0"),
        (("--beta", "0"), "--beta must be above 0"),
        (("--class-share", "2"), "--class-share must be 0 to 1"),
        (("-f", "1"), "no such|There is no checkpoint"),
        (("--rule", "disagreement", "--sam", "nanoo"), "nanoo"),
    ],
)
def test_what_is_wrong_is_said_at_once(model_folder, raw, tmp_path, capsys, options, message):
    assert suggest(tmp_path / "out", *options) == 2
    error = capsys.readouterr().err
    assert any(words in error for words in message.split("|"))
    assert not list((tmp_path / "out").rglob("*.nii.gz"))


def test_worst_slices_are_apart_and_in_order():
    sums = np.zeros((40, 1, 1))
    sums[[10, 11, 12, 30, 20], 0, 0] = [5.0, 4.9, 4.8, 3.0, 2.0]
    assert worst_slices(sums, 3) == [10, 20, 30]


def test_the_page_shows_slices_as_a_radiologist_reads_them(tmp_path):
    """A file that was stored from left to right and from back to front shows the same picture."""
    rng = np.random.default_rng(0)
    image, unsure = rng.random((4, 12, 10)), np.zeros((4, 12, 10))
    unsure[1] = 1.0
    label = np.zeros((4, 12, 10), np.uint8)
    label[1, 2:5, 3:6] = 1
    pages = {}
    for name, direction, flip in (("lps", (1, 1), ()), ("ras", (-1, -1), (1, 2))):
        folder = tmp_path / name
        arrays = {"image": image, "entropy": unsure, "prediction": label}
        files = {
            "image": folder / "case_0000.nii.gz",
            **{kind: map_file(folder, "case", kind) for kind in ("entropy", "prediction")},
        }
        for kind, array in arrays.items():
            written = SimpleITK.GetImageFromArray(np.flip(array, flip).astype(np.float32))
            written.SetSpacing((1.0, 1.0, 5.0))
            written.SetDirection((direction[0], 0, 0, 0, direction[1], 0, 0, 0, 1))
            files[kind].parent.mkdir(parents=True, exist_ok=True)
            SimpleITK.WriteImage(written, str(files[kind]))
        write_page(
            folder / "page.html",
            "title",
            [Suggestion("case", 0.5, "why")],
            {"case": [str(files["image"])]},
            ["lesion"],
            "command",
        )
        pages[name] = (folder / "page.html").read_text()
    assert pages["lps"] == pages["ras"]
    assert "slice 2 of 4 (z), prediction" in pages["ras"]
