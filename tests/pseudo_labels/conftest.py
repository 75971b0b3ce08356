"""Fixtures of the tests of pseudo-labels; the world they live in is in ``tiny_world.py``."""

import pytest
from tiny_world import ThresholdSAM, classes, load_image, predict

from nnunet_semisam.generalists.build import build_generalist
from nnunet_semisam.generalists.embedding_cache import EmbeddingCache
from nnunet_semisam.generalists.ensemble import GeneralistEnsemble
from nnunet_semisam.pseudo_labels.case_pipeline import StageInputs
from nnunet_semisam.pseudo_labels.fusion import CasePriors
from nnunet_semisam.pseudo_labels.settings import SAMSettings  # noqa: F401  registers the blocks
from nnunet_semisam.pseudo_labels.stage import PseudoLabelStage, StageOutputs
from nnunet_semisam.pseudo_labels.store import PseudoLabelStore
from nnunet_semisam.sam.base import SAMBackend
from nnunet_semisam.settings import Settings


@pytest.fixture
def store(tmp_path) -> PseudoLabelStore:
    return PseudoLabelStore(tmp_path / "store")


@pytest.fixture
def make_stage(tmp_path, store):
    """Return a function that builds a stage for background and one class, unless told otherwise.

    Blocks of settings are given by name; the SAM stands in for nano.
    """

    def make(
        backend: SAMBackend | None = None,
        *,
        labels=None,
        priors=None,
        previews=None,
        records=None,
        log=lambda text: None,
        inputs: dict | None = None,
        **blocks,
    ) -> PseudoLabelStage:
        backend, labels = backend or ThresholdSAM(), labels or classes()
        settings = Settings.of(**{"use_sam": True, "nano": {"prompt": "box_points"}, **blocks})
        sources = {"load_image": load_image, "predict": predict, "spacing": (5.0, 1.0, 1.0), **(inputs or {})}
        stage_inputs = StageInputs(**sources, priors=priors or CasePriors())
        cache = EmbeddingCache(tmp_path / "embeddings", "plans_2d", 1.0)
        member = build_generalist("nano", backend, settings, labels, cache, stage_inputs.spacing)
        ensemble = GeneralistEnsemble([member], labels.channels)
        outputs = StageOutputs(store, records, previews, log)
        return PseudoLabelStage(settings, ensemble, labels, stage_inputs, outputs)

    return make
