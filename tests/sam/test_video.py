"""The contract of a SAM with a memory, kept by the smallest one: it follows what stays bright."""

import pytest
import torch
from tiny_video import BrightFollower

from nnunet_semisam.sam.base import PromptBatch


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


def test_known_masks_of_one_volume_are_found_in_another(images):
    sam = BrightFollower()
    other = torch.roll(images, 2, dims=2)
    found = sam.propagate_masks(sam.encode(images[2:3]), images[2:3, 0][None] > 0.5, sam.encode(other), [3, 2, 1])
    assert torch.equal(found[0] > 0, other[[3, 2, 1], 0] > 0.5)
