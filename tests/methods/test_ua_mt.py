import math

import torch
from tiny_students import Pixelwise, build_host, labeled_stripes, labels_of, logits_of, stripes

from nnunet_semisam.methods import UncertaintyAwareMeanTeacher, UnlabeledBatch


def terms_at(progress, strength, **settings):
    method = UncertaintyAwareMeanTeacher(UncertaintyAwareMeanTeacher.Settings(**settings), labels_of(False))
    student = Pixelwise()
    method.setup(student, build_host(labels_of(False), Pixelwise))
    weak = logits_of(stripes(), strength)
    return list(method.terms(student, labeled_stripes(), UnlabeledBatch(weak, 0 * weak), progress))


def test_voxels_are_learned_below_a_threshold_that_rises_from_three_quarters_to_all_of_the_entropy():
    p, q = math.exp(1.5) / (math.exp(1.5) + 2), 1 / (math.exp(1.5) + 2)
    entropy = -(p * math.log(p) + 2 * q * math.log(q)) / math.log(3)
    assert 0.75 < entropy < 0.8
    (early,) = terms_at(0.0, 1.5, noise=0.0)
    (late,) = terms_at(1.0, 1.5, noise=0.0)
    assert early.confidence.eq(0).all()  # 0.75 + 0.25 exp(-5) = 0.7517
    assert late.confidence.eq(1).all()
    torch.testing.assert_close(early.target.amax(dim=1), torch.full((2, 4, 6), p))


def test_noise_makes_a_prediction_uncertain_and_leaves_the_target():
    torch.manual_seed(0)
    (quiet,) = terms_at(0.0, 4.0, noise=0.0)
    (noisy,) = terms_at(0.0, 4.0, noise=20.0, noise_limit=50.0, passes=16)
    assert quiet.confidence.eq(1).all()
    assert noisy.confidence.mean() < 0.5
    torch.testing.assert_close(noisy.target, quiet.target)


def test_published_values_are_the_defaults():
    settings = UncertaintyAwareMeanTeacher.Settings()
    published = (settings.passes, settings.noise, settings.noise_limit, settings.entropy_start)
    assert published == (8, 0.1, 0.2, 0.75)
    assert (settings.loss, settings.weight) == ("mse", 0.1)
