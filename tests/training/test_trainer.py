"""The trainer on a tiny dataset: what it trains, keeps, resumes and refuses."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import tiny_nnunet
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from tiny_students import LEARNING

from nnunet_semisam.data.views import switch_off_benchmarks
from nnunet_semisam.errors import UserError
from nnunet_semisam.generalists.build import backend_of_settings
from nnunet_semisam.pseudo_labels.store import PseudoLabelStore
from nnunet_semisam.sam.base import PromptBatch
from nnunet_semisam.training.seeding import seed_everything

BOX = [[[5.0, 25.0], [8.0, 20.0]]]


def weights(trainer):
    return {name: value.clone() for name, value in trainer.network.state_dict().items()}


def assert_equal_weights(a, b):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=0, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("method", LEARNING)
@pytest.mark.usefixtures("small_sam")
def test_trains_on_labeled_and_unlabeled_volumes(build_trainer, method):
    """In 2D see ``trainings_elsewhere.py``."""
    trainer = build_trainer("3d_fullres", method=method, picture=True, **{method: {"confidence": 0.0}})
    trainer.run_training()
    rows = trainer.semisam_log.rows
    assert [row["epoch"] for row in rows] == [0, 1]
    for row in rows:  # adversarial and pyramid losses are further losses, and know no confidence
        assert row["unlabeled_extra"] > 0 or (row["unlabeled_loss"] > 0 and row["unlabeled_confidence"] > 0)
    folder = Path(trainer.output_folder)
    for name in ("checkpoint_final.pth", "semisam_log.csv", "progress_semisam.png", "semisam_config.yaml"):
        assert (folder / name).is_file()


def test_pool_is_imagesul_and_the_hidden_cases_of_the_fold(build_trainer):
    pool = build_trainer(method="mean_teacher")
    pool.initialize()
    loader = pool._build_unlabeled_loader()
    assert loader.indices == sorted(tiny_nnunet.UNLABELED + tiny_nnunet.SPLITS[0]["unlabeled"])


def test_datasets_that_call_their_channels_modality_are_trained_on(build_trainer, tiny_dataset):
    """nnU-Net 2.8.1 does; older datasets are like that."""
    file = tiny_dataset / "preprocessed" / tiny_nnunet.DATASET / "dataset.json"
    content = json.loads(file.read_text())
    content["modality"] = content.pop("channel_names")
    file.write_text(json.dumps(content))
    assert build_trainer().settings.run.method


def test_supervised_is_bit_equal_to_nnunet(build_trainer):
    class SeededStock(nnUNetTrainer):
        """Stock nnU-Net of the same length; only what a seed cannot reproduce is switched off."""

        def __init__(self, plans, configuration, fold, dataset_json, device=None):
            super().__init__(plans, configuration, fold, dataset_json, device)
            self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 2, 2, 1

        @staticmethod
        def get_training_transforms(*args, **kwargs):
            transforms = nnUNetTrainer.get_training_transforms(*args, **kwargs)
            switch_off_benchmarks(transforms)
            return transforms

    ours = build_trainer(method="supervised", fold=1)
    ours.run_training()
    folder = Path(os.environ["nnUNet_preprocessed"]) / tiny_nnunet.DATASET
    plans = json.loads((folder / f"{tiny_nnunet.PLANS}.json").read_text()) | {"continue_training": False}
    dataset_json = json.loads((folder / "dataset.json").read_text())
    stock = SeededStock(plans, "2d", 1, dataset_json, torch.device("cpu"))
    seed_everything(3)
    stock.initialize()
    seed_everything(3)
    stock.run_training()
    assert_equal_weights(weights(ours), weights(stock))
    assert ours.logger.get_value("train_losses", None) == stock.logger.get_value("train_losses", None)


def test_a_method_behind_a_closed_gate_changes_nothing(build_trainer):
    """While no class is active, training with unlabeled cases is training without them."""
    closed = build_trainer(method="mean_teacher", gate={"dice": 0.95}, fold=1)
    closed.initialize()
    assert closed.gate.class_weights().max() == 0
    batch = {"data": torch.randn(2, 1, 32, 32), "target": [torch.zeros(2, 1, 32, 32), torch.zeros(2, 1, 16, 16)]}
    stock = build_trainer(method="supervised", fold=1)
    stock.initialize()
    closed.dataloader_unlabeled = iter([])  # and no unlabeled batch is made
    for trainer in (closed, stock):
        trainer.train_step({"data": batch["data"].clone(), "target": [t.clone() for t in batch["target"]]})
    assert_equal_weights(weights(closed), weights(stock))


def test_seeded_training_repeats_itself(build_trainer):
    runs = []
    for _ in range(2):
        trainer = build_trainer(method="mean_teacher")
        trainer.run_training()
        runs.append(weights(trainer))
    assert_equal_weights(*runs)


def test_resume_restores_student_teacher_and_log(build_trainer):
    first = build_trainer(method="mean_teacher")
    first.run_training()
    path = Path(first.output_folder) / "checkpoint_final.pth"
    resumed = build_trainer(method="mean_teacher", resume=True)
    resumed.load_checkpoint(str(path))
    assert_equal_weights(weights(first), weights(resumed))
    assert_equal_weights(first.method.teacher.network.state_dict(), resumed.method.teacher.network.state_dict())
    assert resumed.method.teacher.step == first.method.teacher.step == 4
    assert resumed.semisam_log.rows == first.semisam_log.rows
    assert resumed.current_epoch == 2


def test_resume_restores_networks_and_optimisers_of_the_method_gate_and_driver(build_trainer):
    first = build_trainer(method="cps", num_epochs=3, num_iterations_per_epoch=4)
    first.run_training()
    resumed = build_trainer(method="cps", num_epochs=3, num_iterations_per_epoch=4, resume=True)
    resumed.load_checkpoint(str(Path(first.output_folder) / "checkpoint_final.pth"))
    assert_equal_weights(weights(first), weights(resumed))
    assert_equal_weights(first.method.other.state_dict(), resumed.method.other.state_dict())
    ours, theirs = (trainer.method.optimizer.state_dict() for trainer in (first, resumed))
    assert ours["param_groups"] == theirs["param_groups"]
    assert ours["state"].keys() == theirs["state"].keys() != set()
    for index, state in ours["state"].items():
        assert torch.equal(state["momentum_buffer"], theirs["state"][index]["momentum_buffer"])
    assert resumed.semi_supervised_step.unlabeled_pass.step == 12
    assert resumed.gate.log() == first.gate.log()


def test_learning_rate_and_weight_decay_of_the_settings_are_nnunets_optimisers(build_trainer):
    trainer = build_trainer(method="supervised", initial_lr=0.005, weight_decay=0.003)
    trainer.initialize()
    (group,) = trainer.optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.005, 0.003)


def test_optimisers_of_the_method_follow_nnunets_learning_rate(build_trainer):
    trainer = build_trainer(method="cps", num_epochs=4)
    trainer.initialize()
    for epoch in range(4):
        trainer.current_epoch = epoch
        trainer.on_train_epoch_start()
        rates = [each.param_groups[0]["lr"] for each in (trainer.optimizer, trainer.method.optimizer)]
        assert rates[0] == pytest.approx(0.01 * (1 - epoch / 4) ** 0.9)
        assert rates[1] == pytest.approx(rates[0])


def test_second_network_is_as_nnunet_builds_it_with_other_weights(build_trainer):
    trainer = build_trainer(method="cps")
    trainer.initialize()
    ours, theirs = trainer.method.other.state_dict(), trainer.network.state_dict()
    assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in theirs.items()}
    assert any(not torch.equal(ours[name], theirs[name]) for name in ours)
    outputs = trainer.method.other(torch.randn(2, 1, 32, 32))
    assert [tuple(level.shape) for level in outputs] == [(2, 3, 32, 32), (2, 3, 16, 16), (2, 3, 8, 8)]


def test_a_method_can_have_a_sam_to_train(build_trainer):
    trainer = build_trainer(method="mean_teacher")
    trainer.initialize()
    backend = backend_of_settings("nano", trainer.settings, trainer.device)
    prompts = PromptBatch(torch.zeros(1, dtype=torch.int64), torch.ones(1, dtype=torch.int64), torch.tensor(BOX))
    backend.decode(backend.encode(torch.randn(1, 1, 32, 32)), prompts).logits.mean().backward()
    assert any(parameter.grad is not None for parameter in backend.module.parameters())


def test_checkpoint_names_the_networks_to_ship_beside_the_inference_network(build_trainer):
    trainer = build_trainer(method="cps", num_epochs=1)
    trainer.run_training()
    entry = torch.load(Path(trainer.output_folder) / "checkpoint_final.pth", weights_only=False)["semisam"]
    assert entry["ensemble_members"] == ["other"]
    assert_equal_weights(entry["method"]["other"], trainer.method.other.state_dict())
    assert entry["settings"]["cps"]["weight"] == 1.0
    assert entry["settings_sha256"] == trainer.settings.sha256


def test_a_run_goes_on_after_an_interruption_with_its_teacher(build_trainer):
    """on_train_start must not replace the restored teacher by the student."""
    first = build_trainer(method="mean_teacher", num_epochs=3)
    first.run_training()
    resumed = build_trainer(method="mean_teacher", num_epochs=3, resume=True)
    resumed.load_checkpoint(str(Path(first.output_folder) / "checkpoint_best.pth"))
    teacher = {k: v.clone() for k, v in resumed.method.teacher.network.state_dict().items()}
    resumed.on_train_start()
    assert_equal_weights(teacher, resumed.method.teacher.network.state_dict())


def test_settings_of_the_checkpoint_win_on_resume(build_trainer):
    first = build_trainer(method="mean_teacher", num_epochs=1)
    first.run_training()
    resumed = build_trainer(method="mean_teacher", num_epochs=5, resume=True)
    resumed.load_checkpoint(str(Path(first.output_folder) / "checkpoint_final.pth"))
    assert resumed.num_epochs == resumed.settings.run.num_epochs == 1


def test_changed_settings_file_is_refused_on_resume_but_not_for_validation(build_trainer, tmp_path, monkeypatch):
    first = build_trainer(method="mean_teacher", num_epochs=1)
    first.run_training()
    (tmp_path / "settings.yaml").write_text("mean_teacher: {ema_decay: 0.5}\nnum_epochs: 1\n")
    monkeypatch.setenv("nnUNet_semisam_config", str(tmp_path / "settings.yaml"))
    resumed = build_trainer(method="mean_teacher", num_epochs=1, resume=True)
    resumed.load_checkpoint(str(Path(first.output_folder) / "checkpoint_final.pth"))  # --val needs no more than this
    with pytest.raises(UserError, match=r"\(mean_teacher\.ema_decay: None in the checkpoint, 0\.5 now\)"):
        resumed.on_train_start()


def test_teacher_is_deployed_and_validated(build_trainer):
    trainer = build_trainer(method="mean_teacher")
    trainer.run_training()
    checkpoint = torch.load(Path(trainer.output_folder) / "checkpoint_final.pth", weights_only=False)
    assert_equal_weights(checkpoint["network_weights"], trainer.method.teacher.network.state_dict())
    assert_equal_weights(checkpoint["semisam"]["student"], weights(trainer))
    student = weights(trainer)
    trainer.on_validation_epoch_start()
    assert_equal_weights(weights(trainer), trainer.method.teacher.network.state_dict())
    trainer._deployment.restore()
    assert_equal_weights(weights(trainer), student)


def test_student_can_be_deployed(build_trainer):
    trainer = build_trainer(method="mean_teacher", mean_teacher={"deploy": "student"}, num_epochs=1)
    trainer.run_training()
    checkpoint = torch.load(Path(trainer.output_folder) / "checkpoint_final.pth", weights_only=False)
    assert_equal_weights(checkpoint["network_weights"], weights(trainer))


def stored_bytes(value, seen):
    """Bytes of all tensors in a checkpoint; tensors that share memory are written once."""
    if isinstance(value, torch.Tensor):
        storage = value.untyped_storage()
        new = storage.data_ptr() not in seen
        seen.add(storage.data_ptr())
        return storage.nbytes() * new
    values = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return sum(stored_bytes(v, seen) for v in values)


def test_checkpoint_has_nnunets_keys_and_one_of_ours(build_trainer, tmp_path):
    trainer = build_trainer(method="mean_teacher", num_epochs=1)
    trainer.run_training()
    trainer.save_checkpoint(str(tmp_path / "ours.pth"))
    nnUNetTrainer.save_checkpoint(trainer, str(tmp_path / "stock.pth"))
    ours, stock = (torch.load(tmp_path / name, weights_only=False) for name in ("ours.pth", "stock.pth"))
    assert ours.keys() - stock.keys() == {"semisam"}
    assert stock.keys() <= ours.keys()
    assert stored_bytes(ours, set()) <= 2.2 * stored_bytes(stock, set())


def test_stock_checkpoint_is_refused_on_resume(build_trainer, tmp_path):
    trainer = build_trainer(method="mean_teacher")
    trainer.initialize()
    nnUNetTrainer.save_checkpoint(trainer, str(tmp_path / "stock.pth"))
    with pytest.raises(UserError, match="-pretrained_weights"):
        trainer.load_checkpoint(str(tmp_path / "stock.pth"))


def test_pretrained_weights_reach_the_teacher(build_trainer, tmp_path):
    from nnunetv2.run.load_pretrained_weights import load_pretrained_weights

    donor = build_trainer(method="supervised", seed=9)
    donor.initialize()
    donor.save_checkpoint(str(tmp_path / "donor.pth"))
    trainer = build_trainer(method="mean_teacher")
    trainer.initialize()
    load_pretrained_weights(trainer.network, str(tmp_path / "donor.pth"))
    trainer.on_train_start()
    assert_equal_weights(weights(trainer), trainer.method.teacher.network.state_dict())


def test_initial_weights_are_all_of_them_and_reach_the_teacher(build_trainer, tmp_path):
    donor = build_trainer(method="supervised", seed=9)
    donor.initialize()
    donor.save_checkpoint(str(tmp_path / "donor.pth"))
    trainer = build_trainer(method="mean_teacher", initial_weights=str(tmp_path / "donor.pth"))
    trainer.initialize()
    trainer.on_train_start()
    assert_equal_weights(weights(trainer), weights(donor))  # nnU-Net's own option leaves seg_layers out
    assert_equal_weights(trainer.method.teacher.network.state_dict(), weights(donor))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "which is no file"),
        ({"epoch": 3}, "holds no network_weights"),
        ({"network_weights": {"a": torch.zeros(1)}}, "is of another network"),
    ],
)
def test_initial_weights_that_do_not_fit_are_refused(build_trainer, tmp_path, content, told):
    if content is not None:
        torch.save(content, tmp_path / "w.pth")
    trainer = build_trainer(method="supervised", initial_weights=str(tmp_path / "w.pth"))
    trainer.initialize()
    with pytest.raises(UserError, match=told):
        trainer.on_train_start()


def test_workers_are_stopped_when_a_step_fails(build_trainer, monkeypatch):
    monkeypatch.setenv("nnUNet_n_proc_DA", "2")
    trainer = build_trainer(method="mean_teacher")
    monkeypatch.setattr("nnunet_semisam.training.trainer.SemiSupervisedStep.__call__", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trainer.run_training()
    unlabeled = trainer.dataloader_unlabeled.augmenter
    for augmenter in (trainer.dataloader_train, unlabeled, trainer.dataloader_val):
        assert not augmenter._processes


def test_a_fold_outside_the_file_is_refused(build_trainer):
    with pytest.raises(UserError, match="There is no fold 7"):
        build_trainer(fold=7).do_split()


def test_fold_all_is_refused_where_labels_are_hidden(build_trainer):
    with pytest.raises(UserError, match="hidden labels"):
        build_trainer(fold="all").do_split()


def test_no_unlabeled_cases_is_an_early_error(build_trainer, tiny_dataset):
    for file in (tiny_dataset / "preprocessed" / tiny_nnunet.DATASET / "nnUNetPlans_2d_unlabeled").glob("*.b2nd"):
        file.unlink()
    with pytest.raises(UserError, match=r"None of the 2 unlabeled cases .* nnunet-semisam preprocess -d 901 -c 2d"):
        build_trainer(fold=1).on_train_start()
    for file in (tiny_dataset / "raw" / tiny_nnunet.DATASET / "imagesUl").iterdir():
        file.unlink()
    with pytest.raises(UserError, match="no unlabeled cases"):
        build_trainer(fold=1).on_train_start()


def test_unlabeled_cases_that_are_not_preprocessed_are_named(build_trainer, tiny_dataset):
    folder = tiny_dataset / "preprocessed" / tiny_nnunet.DATASET / "nnUNetPlans_2d_unlabeled"
    (folder / "free1.b2nd").unlink()
    trainer = build_trainer(method="mean_teacher", fold=1)
    trainer.initialize()
    trainer._build_unlabeled_loader()
    log = next(Path(trainer.output_folder).glob("training_log*.txt")).read_text()
    assert "1 of 2 unlabeled cases" in log
    assert "free1" in log


def test_images_that_were_taken_out_of_the_pool_are_told_and_test_patients_refused(build_trainer, tiny_dataset):
    """Until 'preprocess' is run again their preprocessed images are trained on; comparing raw files shows nothing."""
    raw = tiny_dataset / "raw" / tiny_nnunet.DATASET
    (raw / "imagesTs").mkdir(exist_ok=True)
    (image,) = (raw / "imagesUl").glob("free1_0000*")
    moved = image.rename(raw / "imagesTs" / image.name)
    trainer = build_trainer(method="mean_teacher", fold=1)
    trainer.initialize()
    with pytest.raises(UserError, match=r"1 unlabeled case.* patients in imagesTs: free1.*preprocess -d 901 -c 2d"):
        trainer._build_unlabeled_loader()
    moved.unlink()
    trainer._build_unlabeled_loader()
    log = next(Path(trainer.output_folder).glob("training_log*.txt")).read_text()
    assert log.count("are not there any more: free1") == 1
    shutil.rmtree(raw / "imagesUl")  # a raw dataset that has none, as a round of self-training, says nothing
    trainer._build_unlabeled_loader()
    log = next(Path(trainer.output_folder).glob("training_log*.txt")).read_text()
    assert log.count("are not there any more") == 1


def test_hidden_labels_are_refused_where_the_plans_read_them(build_trainer, tiny_dataset):
    file = tiny_dataset / "preprocessed" / tiny_nnunet.DATASET / "nnUNetPlans.json"
    plans = json.loads(file.read_text())
    plans["configurations"]["2d"]["normalization_schemes"] = ["CTNormalization"]
    file.write_text(json.dumps(plans))
    with pytest.raises(UserError, match="CTNormalization"):
        build_trainer(fold=0).do_split()


def test_a_cascade_is_refused_before_training(build_trainer):
    trainer = build_trainer()
    trainer.is_cascaded = True
    with pytest.raises(UserError, match="3d_fullres"):
        trainer.initialize()


def test_bfloat16_on_the_cpu_trains_and_keeps_float32_weights(build_trainer):
    trainer = build_trainer(method="mean_teacher", cpu_bfloat16=True, num_epochs=1)
    trainer.run_training()
    assert {value.dtype for value in trainer.network.state_dict().values()} == {torch.float32}
    assert trainer.semisam_log.rows[0]["unlabeled_loss"] > 0


def test_unlabeled_images_of_older_plans_are_refused(build_trainer, tiny_dataset):
    file = tiny_dataset / "preprocessed" / tiny_nnunet.DATASET / "nnUNetPlans.json"
    plans = json.loads(file.read_text())
    plans["configurations"]["2d"]["spacing"] = [1.0, 1.0]
    file.write_text(json.dumps(plans))
    with pytest.raises(UserError, match="other plans"):
        build_trainer(fold=1).on_train_start()


def test_sam_without_unlabeled_cases_is_refused_at_once(build_trainer):
    with pytest.raises(UserError, match="'supervised' opens no unlabeled case"):
        build_trainer(method="supervised", use_sam=True)


@pytest.mark.parametrize("resumed", [False, True])
def test_a_new_training_forgets_the_rounds_of_an_earlier_one_in_its_folder(build_trainer, resumed):
    trainer = build_trainer(method="supervised")
    records = Path(trainer.output_folder) / "semisam_rounds.jsonl"
    records.parent.mkdir(parents=True, exist_ok=True)
    records.write_text("{}\n")
    store = PseudoLabelStore(records.with_name("semisam_store"))
    store.begin(3)
    store.commit(3, {})
    if resumed:
        trainer.initialize()
        trainer.save_checkpoint(str(records.with_name("checkpoint_latest.pth")))
        trainer.load_checkpoint(str(records.with_name("checkpoint_latest.pth")))
    trainer.on_train_start()
    assert records.exists() == resumed
    assert store.rounds() == ([3] if resumed else [])  # their labels may be of other cases and settings


def test_checkpoint_of_another_trainer_is_refused_on_resume(build_trainer, tmp_path):
    trainer = build_trainer(method="supervised")
    trainer.initialize()
    path = tmp_path / "checkpoint.pth"
    trainer.save_checkpoint(str(path))
    torch.save(torch.load(path, weights_only=False) | {"trainer_name": "nnUNetTrainerCPS"}, path)
    with pytest.raises(UserError, match=r"by nnUNetTrainerCPS. To begin with its weights, .* initial_weights"):
        build_trainer(method="supervised").load_checkpoint(str(path))


def test_an_epoch_is_told_in_words_and_the_training_summed_up(build_trainer):
    trainer = build_trainer(method="mean_teacher", use_sam=True, gate={"dice": 0.99, "width": 0.01})
    trainer.run_training()
    text = next(Path(trainer.output_folder).glob("training_log*.txt")).read_text()
    assert text.count("Unlabeled cases: wait for shell (0.") == 2, "a line per epoch, with names of dataset.json"
    assert text.count("SAM: waits for shell (0.") == 2
    assert text.count("Time: ") == 2
    assert "This was a supervised training: nothing was learned from unlabeled cases, because shell" in text


def test_a_supervised_training_says_that_it_was_one(build_trainer):
    trainer = build_trainer(method="supervised")
    trainer.run_training()
    text = next(Path(trainer.output_folder).glob("training_log*.txt")).read_text()
    assert "the method 'supervised' opens no unlabeled case" in text
