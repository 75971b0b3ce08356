import pytest
import torch
from tiny_students import NOW, make_batches, make_method
from torch import Tensor

from nnunet_semisam.methods import UniMatch
from nnunet_semisam.methods.parts.features import ChangedFeatures, ComplementaryDropout, channel_dropout
from nnunet_semisam.methods.parts.networks import finest


def test_two_strong_views_and_a_view_of_dropped_features_share_one_target():
    method, student = make_method("unimatch")
    labeled, unlabeled = make_batches()
    first, second, third = method.terms(student, labeled, unlabeled, NOW)
    assert (first.weight, second.weight, third.weight) == (0.25, 0.25, 0.5)
    assert first.images is unlabeled.strong
    assert second.images is unlabeled.strong2
    assert third.images is unlabeled.weak
    assert first.target is second.target is third.target
    assert first.confidence is second.confidence is third.confidence
    assert (first.mixable, second.mixable, third.mixable) == (True, True, False)
    assert isinstance(third.learner, ChangedFeatures)


def test_published_values_are_the_defaults():
    settings = UniMatch.Settings()
    assert (settings.confidence, settings.dropout) == (0.95, 0.5)


@pytest.mark.parametrize("shape", [(2000, 3, 2, 2), (2000, 3, 1, 2, 2)])
def test_dropped_channels_are_zero_and_the_mean_stays(shape):
    torch.manual_seed(0)
    (dropped,) = channel_dropout([torch.ones(shape)], 0.5)
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(dropped.flatten(2).amin(2), dropped.flatten(2).amax(2))  # a channel as a whole
    assert dropped.mean() == pytest.approx(1.0, abs=0.03)


def test_what_one_view_keeps_the_other_drops():
    torch.manual_seed(0)
    features = [torch.ones(1000, 4, 2, 2), torch.ones(1000, 6, 1, 1)]
    drop = ComplementaryDropout(0.5)
    first, second = drop.first(features), drop.second(features)
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one + other, torch.full_like(one, 2.0))
        whole = one.flatten(1).eq(1).all(dim=1)
        assert whole.float().mean() == pytest.approx(0.5, abs=0.05)
        assert set(one[~whole].unique().tolist()) == {0.0, 2.0}
    kept = [one.flatten(1).eq(1).all(dim=1) for one in first]
    assert torch.equal(*kept)  # the same images at all stages
    (untouched,) = ComplementaryDropout(0.0).first(features[:1])
    assert torch.equal(untouched, features[0])


def test_second_view_cannot_come_first():
    with pytest.raises(RuntimeError, match="before the first"):
        ComplementaryDropout(0.5).second([torch.ones(1, 1, 1, 1)])


def test_changed_features_are_what_is_decoded():
    _, student = make_method("unimatch")
    images = torch.randn(2, 1, 12, 10)

    def nothing(features: list[Tensor]) -> list[Tensor]:
        return [0 * each for each in features]

    logits = finest(ChangedFeatures(student, nothing)(images))
    bias = student.head.bias.view(1, -1, 1, 1).expand_as(logits)
    torch.testing.assert_close(logits, bias)
    torch.testing.assert_close(finest(ChangedFeatures(student, list)(images)), finest(student(images)))
