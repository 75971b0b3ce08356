"""The contract of a SAM with a memory, kept by the smallest one: it follows what stays bright."""

import pytest
import torch
from torch import nn

from nnunet_semisam.sam.base import Embedding, MaskPrediction, PromptBatch, VideoSAM, check_prompts


class BrightFollower(VideoSAM):
    """An object is what is brighter than 0.5; it goes on in the next slice where it overlaps with itself."""

    spatial_dims, prompt_kinds, fingerprint = 2, frozenset({"points"}), "follower"

    def __init__(self) -> None:
        self.module = nn.Identity()

    def encode(self, images):
        return Embedding({"image": images[:, :1]}, tuple(images.shape[2:]))

    def decode(self, embedding, prompts):
        check_prompts(embedding, prompts, self.prompt_kinds)
        logits = 20 * (embedding.features["image"][prompts.image, 0] - 0.5)
        return MaskPrediction(logits, torch.ones(len(prompts)))

    def propagate(self, images, prompts):
        first = self.decode(self.encode(images), prompts).logits
        found = torch.full((len(prompts), len(images), *images.shape[2:]), -10.0)
        for m, start in enumerate(prompts.image.tolist()):
            found[m, start] = first[m]
            for step, last in ((1, len(images)), (-1, -1)):
                for index in range(start + step, last, step):
                    found[m, index] = self._next(images[index, 0], found[m, index - step])
        return found

    @staticmethod
    def _next(image, before):
        logits = 20 * (image - 0.5)
        goes_on = ((logits > 0) & (before > 0)).any()
        return logits if goes_on else torch.full_like(logits, -10.0)


@pytest.fixture
def images():
    """Five slices: an object in slices 1 to 3 that moves by a pixel each, and nothing in 0 and 4."""
    images = torch.zeros(5, 1, 12, 16)
    for index in (1, 2, 3):
        images[index, 0, 3:7, 4 + index : 9 + index] = 1.0
    return images


def prompts_in(*slices: int) -> PromptBatch:
    image = torch.tensor(slices)
    points = torch.tensor([[[5.0, 7.0]]] * len(slices))
    return PromptBatch(image, torch.ones_like(image), points=points, point_labels=torch.ones(len(slices), 1).long())


@pytest.mark.parametrize("start", [1, 2, 3])
def test_an_object_is_followed_towards_both_ends_from_wherever_it_was_prompted(images, start):
    logits = BrightFollower().propagate(images, prompts_in(start))
    assert logits.shape == (1, 5, 12, 16)
    assert logits.dtype == torch.float32
    assert torch.equal(logits[0] > 0, images[:, 0] > 0.5)


def test_the_prompted_slice_is_what_decode_predicts(images):
    sam, prompts = BrightFollower(), prompts_in(2, 3)
    decoded = sam.decode(sam.encode(images), prompts).logits
    followed = sam.propagate(images, prompts)
    for m, index in enumerate(prompts.image.tolist()):
        assert torch.equal(followed[m, index], decoded[m])
