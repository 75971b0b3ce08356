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

    def propagate(self, embedding, prompts):
        found = torch.empty(len(prompts), len(embedding), *embedding.image_shape)
        for m, start in enumerate(prompts.image.tolist()):
            found[m, start] = self.decode(embedding, prompts).logits[m]
            support, known = embedding.select(slice(start, start + 1)), found[m : m + 1, start : start + 1] > 0
            for order in (range(start + 1, len(embedding)), range(start - 1, -1, -1)):
                found[m, list(order)] = self.propagate_masks(support, known, embedding, order)[0]
        return found

    def propagate_masks(self, support, masks, query, order):
        found, before = [], masks[:, -1].float()
        for index in order:
            before = torch.stack([self._next(query.features["image"][index, 0], each) for each in before])
            found.append(before)
        return torch.stack(found, dim=1) if found else torch.empty(len(masks), 0, *query.image_shape)

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
    sam = BrightFollower()
    logits = sam.propagate(sam.encode(images), prompts_in(start))
    assert logits.shape == (1, 5, 12, 16)
    assert logits.dtype == torch.float32
    assert torch.equal(logits[0] > 0, images[:, 0] > 0.5)


def test_the_prompted_slice_is_what_decode_predicts(images):
    sam, prompts = BrightFollower(), prompts_in(2, 3)
    embedding = sam.encode(images)
    decoded = sam.decode(embedding, prompts).logits
    followed = sam.propagate(embedding, prompts)
    for m, index in enumerate(prompts.image.tolist()):
        assert torch.equal(followed[m, index], decoded[m])
