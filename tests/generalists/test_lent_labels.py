"""One rule for all generalists that use labels of labeled cases: whose they may be, and where they are measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_video import BrightFollower
from tiny_world import ThresholdSAM

from nnunet_semisam.generalists.base import GeneralistContext
from nnunet_semisam.generalists.build import build_ensemble
from nnunet_semisam.generalists.embedding_cache import EmbeddingCache
from nnunet_semisam.generalists.lent_labels import learned_from_itself, lenders_of
from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels import settings as pseudo_label_settings  # noqa: F401  registers the block sam
from nnunet_semisam.settings import Settings

BACKENDS = {"prototypes": ("prototypes", ThresholdSAM), "label_propagation": ("video_sam", BrightFollower)}


class Labeled:
    """Names of labeled cases, and whose they are; no file is opened."""

    def __init__(self, **patients: str) -> None:
        self.patients, self.cases = patients, list(patients)

    def group_of(self, case: str) -> str:
        return self.patients.get(case, case)

    def load_image(self, case: str) -> np.ndarray:
        raise AssertionError("opened")

    load_label = load_image


def test_a_labeled_case_gets_labels_of_other_patients_only():
    labeled = Labeled(anna_1="anna", anna_2="anna", ben="ben")
    assert lenders_of("anna_1", labeled) == ["ben"]
    assert lenders_of("ben", labeled) == ["anna_1", "anna_2"]
    assert lenders_of("unlabeled", labeled) == ["anna_1", "anna_2", "ben"]


def test_the_only_labeled_patient_has_labels_of_its_own_and_is_said_to_be_learned(caplog):
    labeled = Labeled(anna_1="anna", anna_2="anna")
    assert lenders_of("anna_1", labeled) == ["anna_1", "anna_2"]
    assert learned_from_itself("prototypes", labeled) == {"anna_1", "anna_2"}
    assert "prototypes: only one patient is labeled" in caplog.text
    caplog.clear()
    assert learned_from_itself("prototypes", Labeled(anna="anna", ben="ben")) == frozenset()
    assert caplog.text == ""


@pytest.mark.parametrize("name", BACKENDS)
def test_generalists_that_use_labels_have_learned_the_only_labeled_patient(name, tmp_path, monkeypatch):
    """The calibration measures no generalist on cases that it has learned, unless the settings say so."""
    place, sam = BACKENDS[name]
    monkeypatch.setattr(f"nnunet_semisam.generalists.{place}.build_backend", lambda *args: sam())
    settings, cache = Settings.of(use_sam=True, sam={"models": [name]}), EmbeddingCache(tmp_path, "2d", 1.0)

    def member(labeled):
        spacing, cpu = (5.0, 1.0, 1.0), torch.device("cpu")
        context = GeneralistContext(settings, Labels.of_classes(2), cache, spacing, cpu, None, labeled)
        return build_ensemble(context).members[0]

    assert member(Labeled(anna_1="anna", anna_2="anna")).learned == {"anna_1", "anna_2"}
    assert member(Labeled(anna="anna", ben="ben")).learned == frozenset()
