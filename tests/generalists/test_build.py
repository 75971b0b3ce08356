"""Settings name SAM models and other generalists alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from tiny_world import classes, load_image, predict

from nnunet_semisam.errors import UserError
from nnunet_semisam.generalists import settings as generalist_settings
from nnunet_semisam.generalists.base import (
    CaseInput,
    CasePrediction,
    CaseResult,
    Generalist,
    GeneralistContext,
    PromptCounts,
)
from nnunet_semisam.generalists.build import build_ensemble, check_generalists
from nnunet_semisam.generalists.embedding_cache import EmbeddingCache
from nnunet_semisam.generalists.ensemble import GeneralistEnsemble
from nnunet_semisam.generalists.settings import GENERALISTS, register_generalist
from nnunet_semisam.pseudo_labels import settings as pseudo_label_settings  # noqa: F401  registers the block sam
from nnunet_semisam.pseudo_labels.provenance import provenance
from nnunet_semisam.registry import Registry
from nnunet_semisam.settings import BLOCKS, Settings, SettingsBlock, setting


@dataclass(frozen=True, kw_only=True)
class MirroredSettings(SettingsBlock):
    """What the mirrored specialist may be told."""

    reliability: float = setting(0.7, "Reliability of its predictions.", low=0, high=1)


class Mirrored(Generalist):
    """The specialist's own prediction of the mirrored image."""

    name = "mirrored"

    def __init__(self, context: GeneralistContext) -> None:
        self.context = context
        self.reliability = context.settings.block("mirrored").reliability

    def predict_case(self, case: CaseInput) -> CaseResult:
        mirrored = self.context.predict(case.image[..., ::-1].copy()).numpy()[..., ::-1]
        probs = np.ascontiguousarray(self.context.labels.foreground(mirrored))
        everywhere = np.ones(probs.shape, dtype=bool)
        prediction = CasePrediction(probs, np.full_like(probs, self.reliability), everywhere, ~everywhere)
        return CaseResult(prediction, PromptCounts.none(len(probs)), {})


@pytest.fixture(autouse=True)
def mirrored(monkeypatch) -> Iterator[None]:
    monkeypatch.setattr(generalist_settings, "GENERALISTS", Registry("generalist"))
    monkeypatch.setattr("nnunet_semisam.generalists.build.GENERALISTS", generalist_settings.GENERALISTS)
    register_generalist("mirrored", MirroredSettings)(Mirrored)
    yield
    del BLOCKS["mirrored"]


def built(tmp_path, settings: Settings) -> GeneralistEnsemble:
    cache = EmbeddingCache(tmp_path, "2d", 1.0)
    device = torch.device("cpu")
    return build_ensemble(GeneralistContext(settings, classes(), cache, (5.0, 1.0, 1.0), device, predict, None))


def test_settings_name_a_generalist_that_is_no_sam(tmp_path):
    settings = Settings.of(use_sam=True, sam={"models": ["mirrored"]}, mirrored={"reliability": 0.6})
    assert "mirrored" in settings.used_blocks()
    ensemble = built(tmp_path, settings)
    image = load_image("case_a")
    result = ensemble.predict_case(CaseInput("case_a", image, predict(image).numpy()))
    assert result.prediction.reliability.max() == pytest.approx(0.6)
    assert result.prediction.probs.max() == pytest.approx(0.8)
    assert provenance(settings, ensemble, None, epoch=1)["generalists"] == [{"name": "mirrored"}]


def test_a_sam_and_another_generalist_predict_together(tmp_path):
    ensemble = built(tmp_path, Settings.of(use_sam=True, sam={"models": ["nano", "mirrored"]}))
    assert [member.name for member in ensemble.members] == ["nano", "mirrored"]


def test_an_unknown_generalist_is_refused_with_the_closest_name():
    with pytest.raises(UserError, match=r"'miror'.*Did you mean 'mirrored'.*Available: nano, .*mirrored"):
        Settings.of(sam={"models": ["miror"]})


def test_names_of_sam_models_are_taken():
    with pytest.raises(ValueError, match="'nano'"):
        register_generalist("nano", MirroredSettings)(Mirrored)
    assert "nano" not in GENERALISTS.names()


def test_each_prompt_strategy_of_a_sam_is_a_generalist_of_its_own_with_one_encoder(tmp_path):
    settings = Settings.of(use_sam=True, nano={"prompt": "points", "further_prompts": ["mask", "box"]})
    ensemble = built(tmp_path, settings)
    assert [member.name for member in ensemble.members] == ["nano", "nano_mask", "nano_box"]
    kinds = [member.parts.strategy.kinds for member in ensemble.members]
    assert kinds == [{"points"}, {"mask"}, {"box"}]
    assert len({id(member.parts.backend) for member in ensemble.members}) == 1


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"further_prompts": ["box_points_mask"]}, "name a strategy twice"),
        ({"further_prompts": ["clicks"]}, "Unknown prompt strategy 'clicks'"),
    ],
)
def test_further_prompts_that_cannot_be_are_refused(block, message):
    with pytest.raises(UserError, match=message):
        check_generalists(Settings.of(use_sam=True, nano=block))
