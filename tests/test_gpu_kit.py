"""The kit for a GPU, with tiny lengths on the CPU. The figures of so small a run mean nothing."""

import json
import os
import runpy
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import prepared_process
import pytest
import torch

from nnunet_semisam.errors import UserError
from nnunet_semisam.training.trainer import SemiSupervisedTrainer

CHECKOUT = Path(__file__).parents[1]
sys.path.append(str(CHECKOUT))  # at the end: an installed package comes before that of the checkout

from benchmarks.gpu import packing, runner  # noqa: E402
from benchmarks.gpu.__main__ import main  # noqa: E402
from benchmarks.gpu.pieces import JSON, SECONDS, TINY, Lengths, Task, chosen, tasks  # noqa: E402
from benchmarks.gpu.runner import DONE, FAILED, UNFINISHED, Record, run_tasks  # noqa: E402
from benchmarks.gpu.summary import as_text, summary  # noqa: E402
from benchmarks.own_folders import make_anew  # noqa: E402

WRITE = "import json, sys; json.dump({}, open(sys.argv[1], 'w'))"
MACHINE = {"device": "none"}


def task(name, code, *words):
    return Task(name, (sys.executable, "-c", code, *words), least_seconds=0)


def writes(name, figures):
    return task(name, f"import sys; open(sys.argv[1], 'w').write({json.dumps(json.dumps(figures))})", JSON)


# ------------------------------------------------------------------------------------------------- every command runs


@pytest.fixture
def in_process(monkeypatch, tmp_path):
    """Return a function that runs a task's command here, which saves the seconds of loading torch."""
    monkeypatch.syspath_prepend(str(CHECKOUT / "benchmarks"))
    modules = set(sys.modules)

    def run(one, seconds=600):
        result = tmp_path / f"{one.name}.json"
        places = {JSON: str(result), SECONDS: str(seconds)}
        words = [places.get(word, word) for word in one.command[1:]]
        if words[0] == "-m":
            monkeypatch.setattr(sys, "argv", words[1:])
            runpy.run_module(words[1], run_name="__main__")
        else:
            monkeypatch.setattr(sys, "argv", words)
            runpy.run_path(words[0], run_name="__main__")
        return json.loads(result.read_text())

    yield run
    for name in {"_measure", "_plans", "_tiny", "step"} & (set(sys.modules) - modules):
        del sys.modules[name]


def tiny_task(name, tmp_path, lengths=TINY):
    (found,) = chosen(tasks("cpu", lengths, tmp_path / "data", tmp_path / "work"), [name])
    return found


def test_memory_is_that_of_one_trainer(in_process, tmp_path):
    figures = in_process(tiny_task("step.memory_3d_fullres_SemiSAM", tmp_path))
    assert figures["total"] > figures["net"] > 0


def test_places_that_wait_for_the_gpu_are_counted_only_where_there_is_one(in_process, tmp_path):
    figures = in_process(tiny_task("sync.2d", tmp_path))
    assert set(figures["a_step"]) >= {"nnU-Net", "Supervised", "SemiSAM (measuring)"}
    assert figures["counted"] is False
    assert set(figures["a_step"].values()) == {0}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_step_waits_for_the_gpu_hardly_more_often_than_stock(in_process, tmp_path):
    (one,) = chosen(tasks("cuda", TINY, tmp_path / "data", tmp_path / "work"), ["sync.2d"])
    a_step = in_process(one)["a_step"]
    assert a_step["nnU-Net"] > 0
    assert a_step["SemiSAM"] <= a_step["nnU-Net"] + 2


def test_a_training_stops_in_time_goes_on_and_is_judged_at_every_checkpoint(in_process, tiny_dataset, tmp_path):
    lengths = replace(TINY, dataset="Dataset901_Tiny")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "preprocessed").symlink_to(tiny_dataset / "preprocessed")
    one = tiny_task("training.meanteacher", tmp_path, lengths)
    first = in_process(one, seconds=0)
    assert (first["finished"], first["epochs"]) == (False, 1)
    second = in_process(one)
    assert (second["finished"], second["epochs"]) == (True, 2)
    assert [each["steps"] for each in second["checkpoints"]] == [2, 4]
    assert set(second["checkpoints"][0]["dice"]) == {"1", "2"}
    assert second["checkpoints"][1]["training_seconds"] == pytest.approx(sum(second["epoch_seconds"].values()))
    assert second["checkpoints"][0] == first["checkpoints"][0]


def saving_every_epoch(trainer, original=SemiSupervisedTrainer.on_epoch_start):
    trainer.save_every = 1
    original(trainer)


def test_a_checkpoint_of_a_start_that_was_stopped_while_it_judged_is_judged_by_the_next(
    in_process, tiny_dataset, tmp_path, monkeypatch
):
    lengths = replace(TINY, dataset="Dataset901_Tiny")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "preprocessed").symlink_to(tiny_dataset / "preprocessed")
    one = tiny_task("training.baseline", tmp_path, lengths)
    with monkeypatch.context() as patch:
        patch.setattr("nnunetv2.inference.predict_from_raw_data.nnUNetPredictor", None)  # whatever ends the judging
        patch.setattr(SemiSupervisedTrainer, "on_epoch_start", saving_every_epoch)
        with pytest.raises(TypeError):
            in_process(one)
    second = in_process(one)
    assert second["finished"]
    assert [each["steps"] for each in second["checkpoints"]] == [2, 4]
    assert set(second["epoch_seconds"]) == {"0", "1"}


def test_every_task_asks_for_figures_and_tiny_ones_are_the_same_tasks(tmp_path):
    full, tiny = (tasks("cuda", lengths, tmp_path, tmp_path) for lengths in (Lengths(), TINY))
    assert [one.name for one in full] == [one.name for one in tiny]
    assert all(JSON in one.command for one in full)
    assert len({one.name for one in full}) == len(full)
    assert full[0].name == "step.2d"


# --------------------------------------------------------------------------------------------------------- the runner


def test_what_is_done_is_not_done_again_and_what_failed_comes_last(tmp_path):
    record = Record.open(tmp_path / "gpu.json")
    broken = task("a.broken", "print('out of memory'); raise SystemExit(3)")
    said = []
    run_tasks([broken, writes("b.good", {"seconds": 1})], record, tmp_path, 60, MACHINE, said.append)
    assert record.tasks["a.broken"]["status"] == FAILED
    assert "out of memory" in record.tasks["a.broken"]["error"]
    assert record.tasks["b.good"]["figures"] == {"seconds": 1}
    assert record.tasks["b.good"]["machine"] == MACHINE
    again, said = Record.open(tmp_path / "gpu.json"), []
    run_tasks([broken, writes("b.good", {}), writes("c.new", {})], again, tmp_path, 60, MACHINE, said.append)
    assert [line.partition(":")[0] for line in said] == ["c.new", "a.broken"]
    assert again.tasks["a.broken"]["attempts"] == 2


def test_a_task_is_stopped_with_what_it_started_when_time_is_up(tmp_path):
    child = "import subprocess, sys; print(subprocess.Popen(['sleep', '60']).pid, flush=True); sys.stdin.read()"
    slow = task("a.slow", child + "\nimport time; time.sleep(60)")
    record, start = Record.open(tmp_path / "gpu.json"), time.monotonic()
    run_tasks([slow, writes("b.next", {})], record, tmp_path, 1.5, MACHINE, lambda line: None)
    assert time.monotonic() - start < 30
    assert record.status(slow) == UNFINISHED
    (word,) = (tmp_path / "logs" / "a.slow.log").read_text().split()
    gone = subprocess.run(["ps", "-o", "stat=", "-p", word], capture_output=True, text=True, check=False).stdout
    assert gone.strip() in ("", "Z")


def test_a_task_that_says_it_is_unfinished_is_begun_again_and_gets_its_time(tmp_path):
    one = task(
        "a.long",
        "import json, sys; json.dump({'finished': False, 'seconds': sys.argv[2]}, open(sys.argv[1], 'w'))",
        JSON,
        SECONDS,
    )
    record = Record.open(tmp_path / "gpu.json")
    for _ in range(2):
        run_tasks([one], record, tmp_path, 30, MACHINE, lambda line: None)
    entry = record.tasks["a.long"]
    assert (entry["status"], entry["attempts"]) == (UNFINISHED, 2)
    assert 0 < float(entry["figures"]["seconds"]) <= 30


def test_results_of_an_earlier_machine_are_taken_over_but_only_what_was_done(tmp_path):
    earlier = Record(tmp_path / "earlier.json", {})
    earlier.add(writes("a.done", {}), {"status": DONE, "figures": {}})
    earlier.add(writes("b.failed", {}), {"status": FAILED, "figures": None})
    record = Record.open(tmp_path / "gpu.json", earlier.path)
    assert set(record.tasks) == {"a.done"}


def test_what_an_earlier_machine_has_done_is_kept_where_this_one_failed(tmp_path):
    earlier = Record(tmp_path / "earlier.json", {})
    earlier.add(writes("a.one", {}), {"status": DONE, "figures": {"seconds": 1}})
    here = Record(tmp_path / "gpu.json", {})
    here.add(writes("a.one", {}), {"status": FAILED, "figures": None})
    assert Record.open(here.path, earlier.path).tasks["a.one"]["figures"] == {"seconds": 1}


def test_figures_stay_where_a_later_start_found_none(tmp_path):
    record, one = Record.open(tmp_path / "gpu.json"), writes("a.one", {})
    record.add(one, {"status": UNFINISHED, "figures": {"checkpoints": [1]}})
    record.add(one, {"status": UNFINISHED, "figures": None})
    assert Record.open(record.path).tasks["a.one"]["figures"] == {"checkpoints": [1]}


@pytest.mark.parametrize("text", ["{}", '{"tasks": {"a": {}}}', '{"tasks": [1]}'])
def test_a_file_that_is_no_record_is_named(tmp_path, text):
    (tmp_path / "gpu.json").write_text(text)
    with pytest.raises(UserError, match=r"gpu\.json holds no record of measurements"):
        Record.open(tmp_path / "gpu.json")


def test_only_named_pieces_are_chosen():
    found = [task(name, "") for name in ("a.one", "a.two", "b.one")]
    assert [one.name for one in chosen(found, ["a"])] == ["a.one", "a.two"]
    assert [one.name for one in chosen(found, ["b.one"])] == ["b.one"]
    with pytest.raises(SystemExit, match="There is no piece 'c'"):
        chosen(found, ["c"])


def test_ratios_are_those_of_the_figures():
    def checkpoint(steps, seconds, dice):
        return {"steps": steps, "training_seconds": seconds, "mean_dice": dice}

    figures = {
        "step.memory_2d_nnU-Net": {"net": 100, "total": 1},
        "step.memory_2d_SemiSAM": {"net": 125, "total": 1},
        "training.baseline": {"checkpoints": [checkpoint(10, 5.0, 0.5), checkpoint(20, 10.0, 0.6)]},
        "training.default": {"checkpoints": [checkpoint(10, 12.0, 0.45)]},
    }
    found = summary({name: {"figures": each} for name, each in figures.items()})
    assert found["peak memory : nnU-Net, 2d"] == {"nnU-Net": 1.0, "SemiSAM": 1.25}
    assert found["dice at equal steps"]["10"] == {"baseline": 0.5, "default": 0.45}
    assert found["dice above the baseline"]["10"]["default"] == pytest.approx(-0.05)
    assert found["dice by seconds"]["baseline"] == [(5.0, 0.5), (10.0, 0.6)]
    assert "SemiSAM: 1.25" in as_text(found)


# --------------------------------------------------------------------------------------------------------- packing


def preprocessed(folder, *sizes):
    dataset = folder / "Dataset027_ACDC"
    (dataset / "nnUNetPlans_2d").mkdir(parents=True)
    for number, size in enumerate(sizes):
        (dataset / "nnUNetPlans_2d" / f"case{number}.b2nd").write_bytes(os.urandom(size))
    return dataset


def test_parts_are_within_the_limit_and_unpack_to_the_same_files(tmp_path):
    dataset = preprocessed(tmp_path, *[300_000] * 5)
    parts = packing.pack(tmp_path / "out", dataset, None, megabytes=0.7)
    assert [part.name for part in parts] == ["part_1", "part_2", "part_3"]
    assert all(sum(file.stat().st_size for file in part.iterdir()) <= 700_000 for part in parts)
    for part in parts:
        packing.unpack(part, tmp_path / "state")
    there = tmp_path / "state" / "data" / "preprocessed" / dataset.name
    for file in (dataset / "nnUNetPlans_2d").iterdir():
        assert (there / "nnUNetPlans_2d" / file.name).read_bytes() == file.read_bytes()


def test_wheels_that_are_not_there_and_damaged_parts_are_named(tmp_path):
    with pytest.raises(UserError, match="there is no wheel"):
        packing.pack(tmp_path / "out", None, tmp_path / "typo", megabytes=1)
    with pytest.raises(UserError, match="nothing to pack"):
        packing.pack(tmp_path / "out", None, None, megabytes=1)
    part = tmp_path / "part_1"
    part.mkdir()
    (part / packing.TAR_FILE).write_bytes(os.urandom(3000))
    with pytest.raises(UserError, match=r"data\.tar is damaged"):
        packing.unpack(part, tmp_path / "state")


def test_a_file_that_fits_into_no_part_is_named(tmp_path):
    with pytest.raises(UserError, match=r"case0\.b2nd"):
        packing.pack(tmp_path / "out", preprocessed(tmp_path, 300_000), None, megabytes=0.2)


@pytest.mark.realdata
@pytest.mark.slow
def test_a_part_of_acdc_is_prepared_with_the_labeled_patients_of_the_field(tmp_path, monkeypatch):
    root = os.environ.get("NNUNET_SEMISAM_TEST_DATA")
    if not root:
        pytest.skip("no real data")

    def call(words, environment):
        log = tmp_path / "log"
        assert prepared_process.run_command(words, environment, log) == 0, log.read_text()

    monkeypatch.setattr(packing, "_call", call)
    dataset = packing.prepare(Path(root) / "ACDC" / "database", tmp_path / "work", unlabeled=1)
    split = json.loads((dataset / "splits_final.json").read_text())[0]
    assert {case[:10] for case in split["train"]} == {"patient099", "patient038", "patient050"}
    assert len({case[:10] for case in split["val"]}) == 10
    assert len(list((dataset / "nnUNetPlans_2d_unlabeled").glob("*.b2nd"))) == 2


def test_folders_that_no_benchmark_made_are_not_deleted(tmp_path):
    mine = tmp_path / "raw" / "Dataset500_Mine" / "dataset.json"
    mine.parent.mkdir(parents=True)
    mine.write_text("{}")
    with pytest.raises(UserError, match=r"holds raw, which no benchmark has made"):
        make_anew(tmp_path, ("raw", "preprocessed"))
    assert mine.is_file()
    make_anew(tmp_path / "new", ("raw",))
    (tmp_path / "new" / "raw" / "half").touch()
    make_anew(tmp_path / "new", ("raw", "preprocessed"))
    assert [path.name for path in (tmp_path / "new" / "raw").iterdir()] == []


def test_the_script_lists_the_pieces_and_refuses_others(tmp_path):
    environment = {**os.environ, "NNUNET_SEMISAM_GPU": str(tmp_path), "PYTHON": sys.executable}
    script = str(CHECKOUT / "benchmarks" / "gpu" / "run.sh")
    listed = subprocess.run(["bash", script, "list"], env=environment, capture_output=True, text=True, check=True)
    assert listed.stdout.splitlines()[0] == "step.2d: not begun"
    wrong = subprocess.run(["bash", script, "steps"], env=environment, capture_output=True, text=True, check=False)
    assert wrong.returncode != 0
    assert "There is no piece 'steps'" in wrong.stderr


def test_a_call_copies_results_and_logs_to_the_folder_that_is_fetched(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NNUNET_SEMISAM_GPU", str(tmp_path / "state"))
    words = []
    monkeypatch.setattr(
        "benchmarks.gpu.__main__.tasks", lambda *w: words.append(w) or [writes("a.one", {"seconds": 1})]
    )
    monkeypatch.setattr("benchmarks.gpu.__main__.machine_of", lambda state, device: MACHINE)
    main(["--out", str(tmp_path / "out")])
    main(["--device", "cpu", "--tiny"])
    assert [(data, work.relative_to(tmp_path)) for _, _, data, work in words] == [
        (tmp_path / "state" / "data", Path("state/work")),
        (tmp_path / "state" / "data", Path("state/check/work")),  # a check counts as no measurement
    ]
    there = json.loads((tmp_path / "out" / runner.RESULT_FILE).read_text())
    assert there["tasks"]["a.one"]["status"] == DONE
    assert (tmp_path / "out" / "logs.txt").is_file()
    assert "All is done." in capsys.readouterr().out
