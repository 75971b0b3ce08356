"""SAM 2's memory: objects are remembered in some slices and found in others.

The memory, its attention and the order of everything are those of transformers' ``Sam2VideoModel``. What is done here
is bookkeeping: slices come encoded already, one at a time, and what the memory does not reach any more is dropped, so
that a volume of any length takes the memory of a few slices.

Shapes in this file: ``O`` objects, ``C`` channels, ``H, W`` of the masks, ``h, w`` of the image embedding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nnunet_semisam.sam.sam2_networks import transformers_library

if TYPE_CHECKING:
    from transformers import Sam2VideoModel


class Follower:
    """Follows objects through consecutive slices, in the order in which the slices come.

    Args:
        model: The network.
        device: Where it runs.
        slices: How many slices will come; the memory measures distances in time relative to that number, up to 16.
        objects: ``O``.
    """

    def __init__(self, model: Sam2VideoModel, device: torch.device, slices: int, objects: int) -> None:
        self.model = model
        # The session keeps time by the number of its frames, and looks for their features in its cache before it
        # encodes: empty frames will do.
        self.session = transformers_library().Sam2VideoInferenceSession(
            video=torch.empty(slices, 0),
            inference_device=device,
            inference_state_device=device,
            dtype=torch.float32,
            max_vision_features_cache_size=1,
        )
        for number in range(objects):
            self.session.obj_id_to_idx(number)
        self.reach = max(model.config.num_maskmem, model.config.max_object_pointers_in_encoder)
        self.time = 0

    def remember(self, maps: list[Tensor], masks: Tensor) -> None:
        """Put a slice with known masks into the memory, where it stays.

        Args:
            maps: Feature maps of the slice, fine first, ``(1, C, *reduced)`` each.
            masks: ``(O, H, W)``, bool; an object that is not in the slice has an empty one.
        """
        for number, mask in enumerate(masks):
            self.session.add_mask_inputs(number, self.time, mask[None, None].float())
        self.session.obj_with_new_inputs = list(range(len(masks)))
        self._step(maps)

    def follow(self, maps: list[Tensor]) -> Tensor:
        """Find the objects in the next slice, and remember what was found for as long as SAM 2's memory reaches.

        Args:
            maps: As in :meth:`remember`.

        Returns:
            Low-resolution logits ``(O, 4h, 4w)``; very negative where the model holds that the object is not there.
        """
        return self._step(maps)

    def _step(self, maps: list[Tensor]) -> Tensor:
        coarse = maps[-1]
        position = self.model.vision_encoder.neck.position_encoding(coarse.shape, coarse.device, coarse.dtype)
        features = {"vision_feats": [_flat(each) for each in maps], "vision_pos_embeds": [_flat(position)]}
        self.session.cache.cache_vision_features(self.time, features)
        found = self.model(inference_session=self.session, frame_idx=self.time).pred_masks
        self._forget()
        self.time += 1
        return found[:, 0].clone()  # a tensor of inference mode cannot be used everywhere

    def _forget(self) -> None:
        """Drop masks that are never read again, and slices that the memory does not reach."""
        for number, outputs in self.session.output_dict_per_obj.items():
            for kind in ("cond_frame_outputs", "non_cond_frame_outputs"):
                if self.time in outputs[kind]:
                    outputs[kind][self.time].pop("high_res_masks", None)
                    outputs[kind][self.time].pop("pred_masks", None)
            outputs["non_cond_frame_outputs"].pop(self.time - self.reach, None)
            self.session.remove_mask_inputs(number, self.time)


def _flat(features: Tensor) -> Tensor:
    """Return ``(h * w, 1, C)`` of ``(1, C, h, w)``."""
    return features.flatten(2).permute(2, 0, 1)
