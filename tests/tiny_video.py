"""The smallest SAM with a memory: it follows what stays bright."""

from __future__ import annotations

import torch
from scipy import ndimage
from torch import nn

from nnunet_semisam.sam.base import Embedding, MaskPrediction, VideoSAM, check_prompts


class BrightFollower(VideoSAM):
    """An object is a connected part brighter than 0.5; it goes on in the next slice where it overlaps with itself."""

    spatial_dims, prompt_kinds, fingerprint = 2, frozenset({"box", "points"}), "follower"

    def __init__(self) -> None:
        self.module = nn.Identity()
        self.encoded = 0
        self.followed: list[list[int]] = []

    def encode(self, images):
        self.encoded += len(images)
        return Embedding({"image": images[:, :1]}, tuple(images.shape[2:]))

    def decode(self, embedding, prompts):
        check_prompts(embedding, prompts, self.prompt_kinds)
        masks = []
        for m, index in enumerate(prompts.image.tolist()):
            touched = torch.zeros(embedding.image_shape, dtype=torch.bool)
            if prompts.boxes is not None:
                touched[tuple(slice(int(first), int(last)) for first, last in prompts.boxes[m])] = True
            else:
                touched[tuple(prompts.points[m, 0].long().tolist())] = True
            masks.append(self._parts_of(embedding.features["image"][index, 0], touched))
        return MaskPrediction(torch.stack(masks), torch.full((len(prompts),), 0.8))

    def propagate(self, embedding, prompts):
        found = torch.empty(len(prompts), len(embedding), *embedding.image_shape)
        for m, start in enumerate(prompts.image.tolist()):
            found[m, start] = self.decode(embedding, prompts).logits[m]
            support, known = embedding.select(slice(start, start + 1)), found[m : m + 1, start : start + 1] > 0
            for order in (range(start + 1, len(embedding)), range(start - 1, -1, -1)):
                found[m, list(order)] = self.propagate_masks(support, known, embedding, order)[0]
        return found

    def propagate_masks(self, support, masks, query, order):
        self.followed.append(list(order))
        found, before = [], masks.any(dim=1)
        for index in order:
            image = query.features["image"][index, 0]
            logits = torch.stack([self._parts_of(image, each) for each in before])
            before = torch.where((logits > 0).flatten(1).any(1)[:, None, None], logits > 0, before)
            found.append(logits)
        return torch.stack(found, dim=1) if found else torch.empty(len(masks), 0, *query.image_shape)

    @staticmethod
    def _parts_of(image, touched):
        numbered = torch.from_numpy(ndimage.label(image.numpy() > 0.5)[0])
        wanted = numbered[touched & (numbered > 0)].unique()
        return torch.where(torch.isin(numbered, wanted) & (numbered > 0), 10.0, -10.0)
