"""The doctor's findings, each check against a state that is really made."""

import os
import shutil
from collections import namedtuple

import pytest

from nnunet_semisam.commands import _checks, _pth, doctor
from nnunet_semisam.commands._checks import Finding, Level
from nnunet_semisam.trainers_folder import trainer_names, trainers_folder

OK, NOTE, MISSING = Level.OK, Level.NOTE, Level.MISSING


@pytest.fixture
def folders(tmp_path, monkeypatch):
    for name in _checks.FOLDERS:
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path


def levels(findings):
    return {finding.subject: finding.level for finding in findings}


def test_versions_of_this_environment_are_fine():
    assert set(levels(_checks.check_versions()).values()) == {OK}


@pytest.mark.parametrize(("version", "level"), [("2.7.0", MISSING), ("2.8.0rc1", OK), ("2.12.3", OK), ("3.0", MISSING)])
def test_nnunet_must_be_in_the_range_of_setup_py(monkeypatch, version, level):
    monkeypatch.setattr("importlib.metadata.version", lambda name: version)
    assert levels(_checks.check_versions())["nnunetv2"] == level


def test_device_is_reported_with_torch():
    assert levels(_checks.check_device())["torch"] == OK
    assert "device" in levels(_checks.check_device())


def test_unset_missing_and_present_folders_are_told_apart(folders, monkeypatch):
    monkeypatch.delenv("nnUNet_raw")
    (folders / "nnUNet_results").rmdir()
    raw, preprocessed, results = _checks.check_folders()
    assert (raw.level, raw.found) == (MISSING, "not set")
    assert preprocessed.level in (OK, NOTE)  # a note where the disk is almost full
    assert (results.level, results.fix) == (MISSING, f'mkdir -p "{folders / "nnUNet_results"}"')


def test_folder_without_write_permission_is_missing(folders, monkeypatch):
    real = os.access
    locked = folders / "nnUNet_raw"  # permissions do not bind root, so the answer of the system is replaced
    monkeypatch.setattr(os, "access", lambda path, mode: path != locked and real(path, mode))
    assert levels(_checks.check_folders())["nnUNet_raw"] == MISSING


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
    assert all(name in finding.found for name in trainer_names(trainers_folder()))
    assert capsys.readouterr().out == ""


def test_trainers_are_missing_if_the_variable_is_not_set(monkeypatch):
    monkeypatch.delenv("nnUNet_extTrainer", raising=False)
    (finding,) = _checks.check_trainers()
    assert finding.level == MISSING
    assert "trainers-path" in finding.fix


def test_each_trainer_is_missing_with_nnunets_reason_if_the_variable_leads_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path))
    findings = _checks.check_trainers()
    assert [finding.subject for finding in findings] == trainer_names(trainers_folder())
    assert {finding.level for finding in findings} == {MISSING}
    assert "Could not find requested nnunet trainer" in findings[0].found


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
    (tmp_path / "sam_vit_b_01ec64.pth").touch()
    nano, folder = _checks.check_sam()
    assert nano.level == OK
    assert "sam_vit_b_01ec64.pth" in folder.found
    monkeypatch.setenv("nnUNet_sam", str(tmp_path / "gone"))
    assert _checks.check_sam()[1].level == NOTE


@pytest.mark.parametrize(("value", "level"), [("0", OK), ("4", OK), ("-1", MISSING), ("many", MISSING)])
def test_workers_must_be_a_number(monkeypatch, value, level):
    monkeypatch.setenv("nnUNet_n_proc_DA", value)
    assert levels(_checks.check_workers()) == {"nnUNet_n_proc_DA": level}


@pytest.mark.parametrize(
    ("text", "level", "words"),
    [
        ("num_epochs: 20", OK, "num_epochs=20"),
        ("", OK, "changes no default"),
        ("method: fixmatch\nfixmatch: {confidence: 0.9}", OK, "method='fixmatch', fixmatch.confidence=0.9"),
        ("gate: {dice: 0.7}", OK, "yaml: gate.dice=0.7"),
        ("num_epoch: 20", MISSING, "Did you mean 'num_epochs'"),
        ("- 20", MISSING, "got a list"),
        ("num_epochs: [", MISSING, "no valid yaml"),
    ],
)
def test_settings_file_is_read_as_the_trainer_will(tmp_path, monkeypatch, text, level, words):
    (tmp_path / "settings.yaml").write_text(text)
    monkeypatch.setenv("nnUNet_semisam_config", str(tmp_path / "settings.yaml"))
    (finding,) = _checks.check_settings()
    assert finding.level == level
    assert words in finding.found


def test_report_counts_and_puts_the_remedy_below():
    report = doctor.report([Finding(OK, "a", "there"), Finding(MISSING, "bb", "gone", "buy one")])
    assert report.splitlines()[:3] == ["[  ok   ] a   there", "[missing] bb  gone", " " * 14 + "-> buy one"]
    assert report.endswith("1 missing, 0 to note, 1 ok")


@pytest.mark.parametrize(("level", "status"), [(OK, 0), (NOTE, 0), (MISSING, 1)])
def test_exit_status_tells_whether_something_is_missing(monkeypatch, capsys, level, status):
    monkeypatch.setattr(doctor, "CHECKS", (lambda: [Finding(level, "thing", "state")],))
    assert doctor.run(None) == status
    assert "thing" in capsys.readouterr().out
