"""What every Segment Anything model must provide, and the types that travel to and from it.

Everything here is in array axis order and in voxels of the image given to :meth:`SAMBackend.encode`; a backend
converts to its own convention (SAM: x before y, pixels of a resized frame) at its own border.

A backend is differentiable: pseudo-labels are made under ``torch.no_grad`` by the caller, adaptation and methods that
train a SAM need the gradients.

Shapes in this file: ``N`` images, ``M`` prompts, ``P`` points of a prompt, ``D`` spatial axes of the backend (2 or 3),
``*S`` those axes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from nnunet_semisam.errors import UserError

FOREGROUND, BACKGROUND, PADDING = 1, 0, -1


@dataclass(frozen=True)
class PromptBatch:
    """Prompts for a SAM, as arrays over ``M`` prompts. Kinds that are ``None`` are not used.

    Attributes:
        image: Which of the encoded images each prompt belongs to, ``(M,)``, int64.
        label: The nnU-Net label (or the index of the region) of the prompted object, ``(M,)``, int64.
        boxes: First and one past the last voxel along each axis, ``(M, D, 2)``, float.
        points: Voxel indices (centres of voxels), ``(M, P, D)``, float.
        point_labels: ``(M, P)``, int64: 1 foreground, 0 background, -1 padding (no point).
        mask_logits: A first guess of the mask, ``(M, *S)``, float logits (0 is undecided).
    """

    image: Tensor
    label: Tensor
    boxes: Tensor | None = None
    points: Tensor | None = None
    point_labels: Tensor | None = None
    mask_logits: Tensor | None = None

    @property
    def kinds(self) -> frozenset[str]:
        """Return the kinds that are used: ``box``, ``points`` and ``mask``."""
        given = {"box": self.boxes, "points": self.points, "mask": self.mask_logits}
        return frozenset(name for name, values in given.items() if values is not None)

    def __len__(self) -> int:
        return len(self.image)

    def select(self, index: Tensor | slice) -> PromptBatch:
        """Return the prompts at ``index``, all kinds alike."""
        return PromptBatch(**{name: None if v is None else v[index] for name, v in vars(self).items()})

    def to(self, device: torch.device) -> PromptBatch:
        """Return the prompts on ``device``."""
        return replace(self, **{name: v.to(device) for name, v in vars(self).items() if v is not None})


@dataclass(frozen=True)
class Embedding:
    """Encoded images.

    Attributes:
        features: Feature maps by name, each ``(N, channels, *reduced)``.
        image_shape: ``*S`` of the images as they were given to ``encode``.
    """

    features: dict[str, Tensor]
    image_shape: tuple[int, ...]

    def __len__(self) -> int:
        return len(next(iter(self.features.values())))

    def select(self, index: Tensor | slice) -> Embedding:
        """Return the images at ``index``."""
        chosen = {
            name: features[index.to(features.device) if isinstance(index, Tensor) else index]
            for name, features in self.features.items()
        }
        return Embedding(chosen, self.image_shape)


@dataclass(frozen=True)
class MaskPrediction:
    """Masks that a SAM predicts.

    Attributes:
        logits: ``(M, *S)``, float32, on the grid of the given images; positive is inside.
        quality: The model's own estimate of the mask's IoU, ``(M,)``, clipped to [0, 1].
    """

    logits: Tensor
    quality: Tensor


class SAMBackend(ABC):
    """A promptable segmentation model. All attributes are those of one model, not of the class.

    Attributes:
        spatial_dims: 2: sees slices; 3: sees volumes.
        tile_side: Voxels along each axis of the cubes that a 3D model takes; ``None`` if it takes any image.
        prompt_kinds: Which of ``box``, ``points`` and ``mask`` the model understands.
        module: The network behind it, in evaluation mode; whoever trains it changes that.
        lora_targets: Names of the layers within ``module`` that low-rank adapters are put on; empty if none are known.
        decoder_part: Name of the part of ``module`` that makes masks of features and prompts; an adaptation trains it.
        fingerprint: Hex digest that changes whenever weights, precision or preprocessing change; part of the name
            under which embeddings are cached.

    Example:
        A model that finds whatever is brighter than 0.5, within the box of the prompt:

        >>> class Bright(SAMBackend):
        ...     spatial_dims, prompt_kinds, fingerprint = 2, frozenset({"box"}), "bright"
        ...     module = nn.Identity()
        ...     def encode(self, images):
        ...         return Embedding({"image": images[:, :1]}, tuple(images.shape[2:]))
        ...     def decode(self, embedding, prompts):
        ...         logits = embedding.features["image"][prompts.image, 0] - 0.5
        ...         outside = torch.ones_like(logits, dtype=torch.bool)
        ...         for mask, ((top, bottom), (left, right)) in zip(outside, prompts.boxes.int().tolist()):
        ...             mask[top:bottom, left:right] = False
        ...         return MaskPrediction(logits.masked_fill(outside, -1.0), torch.ones(len(prompts)))
        >>> image = torch.tensor([[[[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]]]])
        >>> first = torch.zeros(1, dtype=torch.int64)
        >>> prompts = PromptBatch(first, first, boxes=torch.tensor([[[0.0, 1.0], [0.0, 2.0]]]))
        >>> sam = Bright()
        >>> (sam.decode(sam.encode(image), prompts).logits > 0).int().tolist()
        [[[0, 1, 0], [0, 0, 0]]]
    """

    spatial_dims: int
    tile_side: int | None = None
    prompt_kinds: frozenset[str]
    module: nn.Module
    lora_targets: tuple[str, ...] = ()
    decoder_part: str = "mask_decoder"
    fingerprint: str

    @abstractmethod
    def encode(self, images: Tensor) -> Embedding:
        """Encode images once, for many prompts. Gradients reach ``images`` and the parameters of ``module``.

        Args:
            images: ``(N, C, *S)``, float, intensities as nnU-Net normalised them; the backend rescales. They may lie
                on another device than ``module``, most often on the CPU: the backend moves them.
        """

    @abstractmethod
    def decode(self, embedding: Embedding, prompts: PromptBatch) -> MaskPrediction:
        """Predict a mask for every prompt. Gradients reach features, mask prompts and the parameters of ``module``.

        Args:
            embedding: What :meth:`encode` returned, possibly stored and read back: then on the CPU, float32 with the
                precision of float16.
            prompts: At least one prompt; ``image`` indexes ``embedding``. They may lie on the CPU: the backend moves
                them.

        Raises:
            ValueError: If a prompt kind is not understood, or no kind is given.
        """

    def covered(self, image_shape: tuple[int, ...]) -> tuple[float, ...]:
        """Return which share of a feature map shows the image, along each axis, in (0, 1].

        The rest, at the end of the axis, shows padding. 1 for models that stretch images to their input.

        Args:
            image_shape: ``*S`` of the images given to :meth:`encode`.
        """
        return (1.0,) * len(image_shape)

    def class_decoders(self, classes: int, count: int, train_encoder: bool) -> nn.Module:
        """Return the SAM as a trainable network that segments classes, with points or without any prompt.

        Args:
            classes: How many classes.
            count: How many mask decoders, each a copy of the SAM's.
            train_encoder: Whether the image encoder learns, too.

        Returns:
            A module like :class:`~nnunet_semisam.sam.class_decoders.ClassDecoders`.

        Raises:
            UserError: If the model cannot be trained so.
        """
        raise UserError(
            f"{type(self).__name__} has no mask decoders that could be trained to segment classes. Take one of the "
            "models of segment-anything: nano, vit_b, vit_l or vit_h."
        )


class VideoSAM(SAMBackend):
    """A SAM with a memory: it follows objects from slices where they are known through other slices.

    Neither method passes gradients on. Results lie on the CPU: there are as many masks as objects times slices.
    """

    @abstractmethod
    def propagate(self, embedding: Embedding, prompts: PromptBatch) -> Tensor:
        """Follow every prompted object through all images, towards both ends.

        Args:
            embedding: ``N`` consecutive slices of one volume, encoded (possibly stored and read back).
            prompts: ``M`` prompts; ``image`` is the slice that the object is prompted in.

        Returns:
            Logits ``(M, N, H, W)``, float32. Those of the prompted slice are what :meth:`decode` predicts for it.
        """

    @abstractmethod
    def propagate_masks(self, support: Embedding, masks: Tensor, query: Embedding, order: Sequence[int]) -> Tensor:
        """Follow objects from slices in which they are known into others, of the same volume or of another one.

        Args:
            support: ``N`` encoded slices in which the objects are known, in the order in which they are remembered.
            masks: ``(O, N, H, W)``, bool, on the grid of ``support``; empty where an object is not in a slice.
            query: Encoded slices to find the objects in; their height and width may differ from those of ``support``.
            order: Which slices of ``query``, in the order in which they are followed.

        Returns:
            Logits ``(O, len(order), H, W)``, float32, on the grid of ``query``.
        """


def check_prompts(embedding: Embedding, prompts: PromptBatch, understood: frozenset[str]) -> None:
    """Refuse prompts that a backend cannot decode; every backend calls this first.

    Raises:
        ValueError: If there is no prompt or no kind, a kind is not understood, an image was not encoded, or the
            shape of mask prompts is not that of the images.
    """
    if len(prompts) == 0:
        raise ValueError("No prompt was given; decode needs at least one.")
    if (prompts.points is None) != (prompts.point_labels is None):
        raise ValueError("Points and point labels belong together; one of them is missing.")
    if not prompts.kinds:
        raise ValueError("The prompts have neither box nor points nor mask; give at least one kind.")
    if not prompts.kinds <= understood:
        raise ValueError(
            f"The prompts are of the kinds {', '.join(sorted(prompts.kinds))}; this SAM understands "
            f"{', '.join(sorted(understood))} only."
        )
    low, high = int(prompts.image.min()), int(prompts.image.max())
    if low < 0 or high >= len(embedding):
        raise ValueError(f"Prompts are about images {low} to {high}, but {len(embedding)} were encoded.")
    if prompts.mask_logits is not None and tuple(prompts.mask_logits.shape[1:]) != tuple(embedding.image_shape):
        got, wanted = tuple(prompts.mask_logits.shape[1:]), tuple(embedding.image_shape)
        raise ValueError(f"Mask prompts are {got} voxels, the images {wanted}; they must be equal.")
