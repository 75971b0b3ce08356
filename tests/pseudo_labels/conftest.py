"""Fixtures of the stage's tests; the world they live in is in ``tiny_world.py``."""

import pytest
from tiny_world import ThresholdSAM, classes, load_image, predict

from nnunet_semisam.generalists.embedding_cache import EmbeddingCache
from nnunet_semisam.pseudo_labels.stage import PseudoLabelStage
from nnunet_semisam.pseudo_labels.store import PseudoLabelStore
from nnunet_semisam.sam.base import SAMBackend
from nnunet_semisam.settings.config import SemiSAMConfig


@pytest.fixture
def store(tmp_path) -> PseudoLabelStore:
    return PseudoLabelStore(tmp_path / "store")


@pytest.fixture
def make_stage(tmp_path, store):
    """A stage for two classes (background and one foreground), unless told otherwise."""

    def make(backend: SAMBackend | None = None, config: SemiSAMConfig | None = None, **changes) -> PseudoLabelStage:
        backend = backend or ThresholdSAM()
        settings = {
            "load_image": load_image,
            "predict": predict,
            "layout": classes(),
            "spacing": (5.0, 1.0, 1.0),
            **changes,
        }
        cache = EmbeddingCache(tmp_path / "embeddings", "plans_2d", backend.fingerprint, 1.0)
        return PseudoLabelStage(config or SemiSAMConfig(sam_prompt="box_points"), backend, store, cache, **settings)

    return make
