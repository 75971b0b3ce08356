import pytest
import torch
from tiny_students import NOW, Pixelwise, build_host, labeled_stripes, labels_of, logits_of, stripes

from nnunet_semisam.methods import InterpolationConsistency, MonteCarloInterpolation, PseudoLabel, UnlabeledBatch
from nnunet_semisam.methods.parts.mixing import interpolate, interpolation_shares


def prepared(kind, **settings):
    method = kind(kind.Settings(**settings), labels_of(False))
    student = Pixelwise()
    method.setup(student, build_host(labels_of(False), Pixelwise))
    return method, student


@pytest.fixture
def one_quarter(monkeypatch):
    def shares(count, ndim, alpha, device):
        return torch.full((count, *[1] * (ndim - 1)), 0.25)

    monkeypatch.setattr("nnunet_semisam.methods.ict.interpolation_shares", shares)


@pytest.mark.usefixtures("one_quarter")
@pytest.mark.parametrize("kind", [InterpolationConsistency, MonteCarloInterpolation])
def test_mixed_images_are_to_be_predicted_as_the_mixture_of_the_teachers_predictions(kind):
    method, student = prepared(kind)
    weak = logits_of(torch.stack([stripes()[0], stripes()[0].flip(1)]))
    (term,) = method.terms(student, labeled_stripes(), UnlabeledBatch(weak, 0 * weak), NOW)
    torch.testing.assert_close(term.images, 0.25 * weak + 0.75 * weak.flip(0))
    probs = weak.softmax(dim=1)
    torch.testing.assert_close(term.target, 0.25 * probs + 0.75 * probs.flip(0))
    torch.testing.assert_close(term.confidence, torch.ones(2, 1, 4, 6), atol=1e-3, rtol=0)
    assert not term.mixable


@pytest.mark.usefixtures("one_quarter")
def test_uncertain_voxels_count_less_by_the_share_of_their_image():
    method, student = prepared(MonteCarloInterpolation, noise=0.0)
    weak = logits_of(stripes())
    weak[1] = 0.0  # every class alike: the largest entropy
    (term,) = method.terms(student, labeled_stripes(), UnlabeledBatch(weak, weak), NOW)
    torch.testing.assert_close(term.confidence[0], torch.full((1, 4, 6), 0.25), atol=1e-3, rtol=0)
    torch.testing.assert_close(term.confidence[1], torch.full((1, 4, 6), 0.75), atol=1e-3, rtol=0)


def test_stored_pseudo_labels_are_learned_on_the_strong_view():
    method, student = prepared(InterpolationConsistency)
    weak = logits_of(stripes())
    pseudo = PseudoLabel(weak.softmax(dim=1), torch.ones(2, 1, 4, 6))
    mixed, plain = method.terms(student, labeled_stripes(), UnlabeledBatch(weak, weak + 1, pseudo), NOW)
    assert mixed.pseudo is None
    assert plain.pseudo is pseudo
    assert torch.equal(plain.images, weak + 1)
    assert plain.confidence.eq(0).all()


def test_shares_are_those_of_a_symmetric_beta_distribution():
    torch.manual_seed(0)
    shares = interpolation_shares(20000, 4, 0.5, torch.device("cpu"))
    assert shares.shape == (20000, 1, 1, 1)
    assert shares.mean() == pytest.approx(0.5, abs=0.01)
    assert shares.var() == pytest.approx(0.125, abs=0.005)  # 1 / (4 (2 alpha + 1))
    values = torch.tensor([[1.0], [3.0]])
    assert interpolate(values, torch.tensor([[1.0], [0.5]])).tolist() == [[1.0], [2.0]]
