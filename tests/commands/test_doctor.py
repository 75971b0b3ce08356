"""The doctor's findings, each check against a state that is really made."""

import os
import re
import shutil
from collections import namedtuple

import pytest

from nnunet_semisam import cli
from nnunet_semisam.checks import software, trainers
from nnunet_semisam.checks.findings import Finding, Level, looked_at
from nnunet_semisam.commands import _checks, _pth, doctor
from nnunet_semisam.sam.families import FAMILIES
from nnunet_semisam.trainers_folder import trainer_names, trainers_folder

OK, NOTE, STOPS = Level.OK, Level.NOTE, Level.STOPS


@pytest.fixture
def folders(tmp_path, monkeypatch):
    for name in _checks.FOLDERS:
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path


def levels(findings):
    return {finding.subject: finding.level for finding in findings}


def test_versions_of_this_environment_are_fine():
    assert set(levels(software.check_versions()).values()) == {OK}


@pytest.mark.parametrize(("version", "level"), [("2.7.0", STOPS), ("2.8.0rc1", OK), ("2.12.3", OK), ("3.0", STOPS)])
def test_nnunet_must_be_in_the_range_of_setup_py(monkeypatch, version, level):
    monkeypatch.setattr("importlib.metadata.version", lambda name: version)
    assert levels(software.check_versions())["nnunetv2"] == level


def test_device_is_reported_with_torch():
    assert levels(software.check_device())["torch"] == OK
    assert "device" in levels(software.check_device())


def test_unset_missing_and_present_folders_are_told_apart(folders, monkeypatch):
    monkeypatch.delenv("nnUNet_raw")
    (folders / "nnUNet_results").rmdir()
    raw, preprocessed, results = _checks.check_folders()
    assert (raw.level, raw.found) == (STOPS, "not set")
    assert preprocessed.level in (OK, NOTE)  # a note where the disk is almost full
    assert (results.level, results.fix) == (STOPS, f'mkdir -p "{folders / "nnUNet_results"}"')


def test_folder_without_write_permission_is_missing(folders, monkeypatch):
    real = os.access
    locked = folders / "nnUNet_raw"  # permissions do not bind root, so the answer of the system is replaced
    monkeypatch.setattr(os, "access", lambda path, mode: path != locked and real(path, mode))
    assert levels(_checks.check_folders())["nnUNet_raw"] == STOPS


def test_little_room_is_noted(folders, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(3 * 1024**3))
    finding = _checks.check_folders()[0]
    assert finding.level == NOTE
    assert "3.0 GiB free" in finding.found


def test_trainers_are_found_by_nnunet_itself_if_the_variable_is_set(monkeypatch, capsys):
    monkeypatch.setenv("nnUNet_extTrainer", str(trainers_folder()))
    (finding,) = _checks.check_trainers()
    assert finding.level == OK
    count = len(trainer_names(trainers_folder()))
    assert finding.found.startswith(f"nnU-Net finds {count} of {count}: ")
    assert capsys.readouterr().out == ""


def test_trainers_are_missing_if_the_variable_is_not_set(monkeypatch):
    monkeypatch.delenv("nnUNet_extTrainer", raising=False)
    (finding,) = _checks.check_trainers()
    assert finding.level == STOPS
    assert "trainers-path" in finding.fix


@pytest.mark.skipif((_pth.site_packages() / _pth.PTH_NAME).exists(), reason="registered: nnU-Net finds them anyhow")
def test_each_trainer_is_missing_with_nnunets_reason_if_the_variable_leads_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path))
    findings = _checks.check_trainers()
    assert [finding.subject for finding in findings] == trainer_names(trainers_folder())
    assert {finding.level for finding in findings} == {STOPS}
    assert "Could not find requested nnunet trainer" in findings[0].found


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("import os; os._exit(0)", "ended the program"),
        ("while True: pass", r"hangs in .*nnUNetTrainerMine\.py"),
    ],
)
def test_a_module_that_ends_or_hangs_the_search_is_named_and_ends_nothing_else(tmp_path, monkeypatch, code, words):
    (tmp_path / "nnUNetTrainerMine.py").write_text(code)
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join([str(tmp_path), str(trainers_folder())]))
    monkeypatch.setattr(trainers, "SECONDS", 3.0 if "while" in code else 60.0)
    found = trainers.find_trainers(["nnUNetTrainerMeanTeacher", "nnUNetTrainerSemiSAM"])
    assert list(found) == ["nnUNetTrainerMeanTeacher", "nnUNetTrainerSemiSAM"]
    assert re.search(words, found["nnUNetTrainerMeanTeacher"].error)


def test_what_a_module_prints_does_not_disturb_the_search(tmp_path, monkeypatch, capfd):
    code = "import os, sys\nprint('x' * 10**6)\nsys.stderr.write('y')\nos.write(1, b'z' * 10**5)\n"
    (tmp_path / "nnUNetTrainerMine.py").write_text(code)
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join([str(tmp_path), str(trainers_folder())]))
    assert trainers.find_trainers(["nnUNetTrainerSemiSAM"])["nnUNetTrainerSemiSAM"].error == ""
    assert capfd.readouterr().out == ""


def test_a_check_that_fails_itself_is_a_finding_and_the_next_one_is_made(monkeypatch, capsys):
    def broken():
        raise SystemExit(5)

    monkeypatch.setattr(doctor, "CHECKS", (broken, lambda: [Finding(OK, "thing", "state")]))
    assert cli.main(["doctor"]) == 1
    assert "could not be looked at (SystemExit: 5)" in capsys.readouterr().out
    assert looked_at("x", lambda: [Finding(OK, "a", "b")]) == [Finding(OK, "a", "b")]


@pytest.mark.parametrize(
    "value",
    ["FILE", "LOOP", "/" + "x" * 5000, "/tmp/" + "x" * 300, "~/data", " ", "/a\nb\x1b[31m", "/tmp/\udcff"],
)
def test_odd_values_of_a_folder_variable_are_findings(folders, monkeypatch, capsys, value):
    (folders / "file").touch()
    (folders / "loop").symlink_to("loop")
    value = value.replace("FILE", str(folders / "file")).replace("LOOP", str(folders / "loop"))
    monkeypatch.setenv("nnUNet_raw", value)
    finding = _checks.check_folders()[0]
    assert finding.level == STOPS
    assert finding.fix
    assert all(character.isprintable() for character in finding.found + finding.fix)


def test_folders_that_are_one_or_lie_in_each_other_are_noted(folders, monkeypatch):
    monkeypatch.setenv("nnUNet_results", str(folders / "nnUNet_raw"))
    (note,) = [finding for finding in _checks.check_folders() if "one folder" in finding.found]
    assert note.level == NOTE
    (folders / "nnUNet_raw" / "inner").mkdir()
    monkeypatch.setenv("nnUNet_results", str(folders / "nnUNet_raw" / "inner"))
    (note,) = [finding for finding in _checks.check_folders() if "lie in each other" in finding.found]
    assert note.level == NOTE


def test_a_relative_folder_is_noted(folders, monkeypatch):
    monkeypatch.chdir(folders)
    monkeypatch.setenv("nnUNet_raw", "nnUNet_raw")
    assert levels(_checks.check_folders())["nnUNet_raw"] == NOTE


@pytest.mark.parametrize("harm", ["binary", "folder", "pipe", "huge", "link"])
def test_a_startup_file_that_cannot_be_read_is_a_finding(tmp_path, monkeypatch, harm):
    monkeypatch.setattr(_pth, "site_packages", lambda: tmp_path)
    monkeypatch.delenv("nnUNet_extTrainer", raising=False)
    path = tmp_path / _pth.PTH_NAME
    {
        "binary": lambda: path.write_bytes(b"\xff\xfe\x00"),
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "huge": lambda: path.write_bytes(b"a" * 2**21),
        "link": lambda: path.symlink_to("gone"),
    }[harm]()
    (finding,) = _checks.check_registration()
    assert (finding.level, finding.subject) == (NOTE, "register")


def test_trainers_of_another_installation_and_folders_named_twice_are_noted(tmp_path, monkeypatch):
    other = tmp_path / "other"
    shutil.copytree(trainers_folder(), other)
    ours = str(trainers_folder())
    monkeypatch.setattr(_pth, "site_packages", lambda: tmp_path)
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join([str(other), ours, ours]))
    first, second = _checks.check_registration()
    assert "holds trainers of another installation" in first.found
    assert "names a folder twice" in second.found


@pytest.mark.parametrize("version", ["unknown", None, "", "2"])
def test_a_version_that_is_none_is_a_damaged_installation(monkeypatch, version):
    monkeypatch.setattr("importlib.metadata.version", lambda name: version)
    assert levels(software.check_versions())["nnunetv2"] == STOPS


def test_a_driver_that_raises_is_a_finding(monkeypatch):
    def raises():
        raise RuntimeError("driver too old")

    monkeypatch.setattr("torch.cuda.is_available", raises)
    assert levels(software.check_device()) == {"torch": OK, "device": STOPS}


def test_torn_weights_are_findings(tmp_path, monkeypatch):
    (tmp_path / "nano_sam.pt").write_bytes(b"x")
    monkeypatch.setattr("nnunet_semisam.sam.checkpoints.PACKAGED_WEIGHTS", tmp_path / "nano_sam.pt")
    monkeypatch.setenv("nnUNet_sam", str(tmp_path))
    (tmp_path / "sam_vit_b_01ec64.pth").write_bytes(b"x")
    nano, _, vit_b = _checks.check_sam()
    assert (nano.level, vit_b.level) == (STOPS, NOTE)
    assert "1 bytes instead of 375042383" in vit_b.found


def test_options_of_a_dataset_need_one(monkeypatch, capsys):
    assert cli.main(["doctor", "-c", "2d"]) == 2
    assert "Name one with -d" in capsys.readouterr().err


def test_stale_registration_is_noted(tmp_path, monkeypatch):
    monkeypatch.setattr(_pth, "site_packages", lambda: tmp_path)
    monkeypatch.setenv("nnUNet_extTrainer", str(trainers_folder()))
    _pth.write_startup_files(tmp_path / "elsewhere", tmp_path)
    assert levels(_checks.check_registration()) == {"register": NOTE, "nnUNet_extTrainer": OK}
    _pth.write_startup_files(trainers_folder(), tmp_path)
    assert levels(_checks.check_registration()) == {"register": OK, "nnUNet_extTrainer": OK}


def test_folders_in_the_variable_that_are_gone_are_named(monkeypatch):
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join([str(trainers_folder()), "/gone"]))
    finding = _checks.check_registration()[-1]
    assert (finding.level, finding.fix) == (NOTE, "remove what is not there: /gone")


def test_shipped_weights_and_sam_folder_are_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_sam", str(tmp_path))
    with (tmp_path / "sam_vit_b_01ec64.pth").open("wb") as file:
        file.truncate(FAMILIES["vit_b"].size)
    nano, folder = _checks.check_sam()
    assert nano.level == OK
    assert "sam_vit_b_01ec64.pth" in folder.found
    monkeypatch.setenv("nnUNet_sam", str(tmp_path / "gone"))
    assert _checks.check_sam()[1].level == NOTE


@pytest.mark.parametrize(
    ("value", "level"),
    [("0", OK), ("4", OK), ("-1", STOPS), ("many", STOPS), ("²", STOPS), ("9" * 5000, STOPS)],
)
def test_workers_must_be_a_number(monkeypatch, value, level):
    monkeypatch.setenv("nnUNet_n_proc_DA", value)
    assert levels(_checks.check_workers()) == {"nnUNet_n_proc_DA": level}


@pytest.mark.parametrize(
    ("text", "level", "words"),
    [
        ("num_epochs: 20", OK, "num_epochs=20"),
        ("", OK, "changes no default"),
        ("method: fixmatch\nfixmatch: {confidence: 0.9}", OK, "method='fixmatch', fixmatch.confidence=0.9"),
        ("gate: {dice: 0.6}", OK, "yaml: gate.dice=0.6"),
        ("num_epoch: 20", STOPS, "Did you mean 'num_epochs'"),
        ("- 20", STOPS, "got a list"),
        ("num_epochs: [", STOPS, "no valid yaml"),
    ],
)
def test_settings_file_is_read_as_the_trainer_will(tmp_path, monkeypatch, text, level, words):
    (tmp_path / "settings.yaml").write_text(text)
    monkeypatch.setenv("nnUNet_semisam_config", str(tmp_path / "settings.yaml"))
    (finding,) = _checks.check_settings()
    assert finding.level == level
    assert words in finding.found


@pytest.mark.parametrize(("has", "gpu", "told"), [(False, False, True), (True, False, False), (False, True, False)])
def test_bfloat16_is_noted_where_the_cpu_would_have_to_emulate_it(tmp_path, monkeypatch, has, gpu, told):
    (tmp_path / "settings.yaml").write_text("cpu_bfloat16: true")
    monkeypatch.setenv("nnUNet_semisam_config", str(tmp_path / "settings.yaml"))
    monkeypatch.setattr("nnunet_semisam.training.cpu_speed.has_bfloat16_instructions", lambda: has)
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    assert levels(_checks.check_settings()).get("cpu_bfloat16") == (NOTE if told else None)


def test_report_counts_and_puts_the_remedy_below():
    report = doctor.report([Finding(OK, "a", "there"), Finding(STOPS, "bb", "gone", "buy one")])
    assert report.splitlines()[:3] == ["[  ok   ] a   there", "[ stops ] bb  gone", " " * 14 + "-> buy one"]
    assert report.endswith("1 would stop a training, 0 to note, 1 ok")


@pytest.mark.parametrize(("level", "status"), [(OK, 0), (NOTE, 0), (STOPS, 1)])
def test_exit_status_tells_whether_something_is_missing(monkeypatch, capsys, level, status):
    monkeypatch.setattr(doctor, "CHECKS", (lambda: [Finding(level, "thing", "state")],))
    assert cli.main(["doctor"]) == status
    assert "thing" in capsys.readouterr().out


def test_a_library_that_is_there_and_cannot_be_imported_is_missing(monkeypatch):
    """What was wrong: a torchvision of another torch was "installed", and the advice was to register once more."""

    def fail(name):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr("importlib.import_module", fail)
    (finding,) = software.check_sam_libraries()
    assert (finding.subject, finding.level) == ("torchvision", STOPS)
    assert "operator torchvision::nms does not exist" in finding.found
    assert "torch torchvision" in finding.fix


def test_what_fails_inside_a_trainers_module_is_not_mended_by_registering(monkeypatch):
    monkeypatch.setenv("nnUNet_extTrainer", "x")
    answer = trainers.Found("RuntimeError: operator torchvision::nms does not exist")
    monkeypatch.setattr(trainers, "find_trainers", lambda names: dict.fromkeys(names, answer))
    (finding,) = _checks.check_trainers()
    assert finding.level == STOPS
    assert "register" not in finding.fix


@pytest.mark.parametrize(("value", "found"), [(None, []), ("0", [OK]), ("perhaps", [STOPS])])
def test_the_logger_of_weights_and_biases_is_looked_at_if_it_is_asked_for(monkeypatch, value, found):
    monkeypatch.delenv("nnUNet_wandb_enabled", raising=False)
    if value is not None:
        monkeypatch.setenv("nnUNet_wandb_enabled", value)
    assert [finding.level for finding in looked_at("logger", _checks.check_logger)] == found
