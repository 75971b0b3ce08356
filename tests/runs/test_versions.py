"""What a number rests on, found out where it is made."""

import json
import subprocess

from nnunet_semisam.runs import versions


def git(folder, *words):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    return subprocess.check_output(["git", "-C", str(folder), *identity, *words], text=True).strip()


def test_commit_of_a_checkout_and_whether_files_differ_from_it(tmp_path):
    assert versions.commit(tmp_path) is None
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("1")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-q", "-m", "first")
    head = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "notes.txt").touch()  # not part of the code
    assert versions.commit(tmp_path) == head
    (tmp_path / "code.py").write_text("2 and more")
    assert versions.commit(tmp_path) == f"{head} with changes"


def test_fingerprints_of_all_rounds_of_sam(tmp_path):
    for index, digest in enumerate("aab"):
        folder = tmp_path / "Dataset001_A" / "model" / "fold_0" / "semisam_store" / f"round_{index:03d}"
        folder.mkdir(parents=True)
        (folder / "provenance.json").write_text(json.dumps({"sam_fingerprint": digest}))
    torn = folder.with_name("round_003.partial")
    torn.mkdir()
    (torn / "provenance.json").write_text("{")
    assert versions.sam_fingerprints(tmp_path) == ["a", "b"]
    assert versions.sam_fingerprints(tmp_path / "nowhere") == []


def test_settings_of_the_environment(monkeypatch):
    monkeypatch.setenv("nnUNet_n_proc_DA", "3")
    monkeypatch.delenv("nnUNet_compile", raising=False)
    found = versions.environment_settings()
    assert found["nnUNet_n_proc_DA"] == "3"
    assert "nnUNet_compile" not in found
