"""Decode N prompts at once against N calls of segment-anything's own decoder, on the same cached embedding.

Both start from the same prompts and end with logits on the image's grid, in float32. In between, ours decodes all
images and prompts at once; segment-anything's ``MaskDecoder.forward`` takes one image at a time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from _measure import Timing, describe_machine, interleave, table
from _tiny import add_machine_arguments, invent, on_machine, random_sam
from torch import Tensor

from nnunet_semisam.sam.base import Embedding, PromptBatch
from nnunet_semisam.sam.checkpoints import find_weights, load_weights
from nnunet_semisam.sam.families import FAMILIES
from nnunet_semisam.sam.frame import Frame
from nnunet_semisam.sam.segment_anything import FEATURES, SegmentAnythingBackend

BOUND = 1e-4
ONE_BY_ONE, BY_IMAGE, AT_ONCE = "segment-anything, prompt by prompt", "segment-anything, image by image", "at once"


class Float32Backend(SegmentAnythingBackend):
    """Never in half precision, so that differences are those of the arithmetic's order alone."""

    def autocast(self) -> AbstractContextManager:
        """Return no context."""
        return nullcontext()


def build(model: str, random: bool, device: torch.device, batch_size: int) -> Float32Backend:
    """Return a backend with the weights at hand, or with random ones."""
    sam = random_sam(model)
    if not random:
        load_weights(sam, find_weights(model, None, fetch=False), model)
    return Float32Backend(sam, device, FAMILIES[model].preprocessing, "benchmark", batch_size=batch_size)


def make_embedding(backend: Float32Backend, slices: int, shape: tuple[int, int], encode: bool) -> Embedding:
    """Return an embedding of invented slices ``(N, 1, H, W)``; or random numbers, which decode as fast."""
    if encode:
        image, _ = invent((slices, *shape), 1, 0)
        return backend.encode(torch.from_numpy(image).transpose(0, 1))
    channels, side = backend.sam.prompt_encoder.embed_dim, backend.sam.prompt_encoder.image_embedding_size
    return Embedding({FEATURES: torch.randn(slices, channels, *side, device=backend.device)}, shape)


def make_prompts(count: int, slices: int, shape: tuple[int, int]) -> PromptBatch:
    """Return ``count`` prompts of box, three points and mask, spread over the slices in ascending order."""
    size = torch.tensor(shape, dtype=torch.float32)
    low = torch.rand(count, 2) * size / 2
    high = low + 4 + torch.rand(count, 2) * (size / 2 - 4)
    points = low[:, None] + torch.rand(count, 3, 2) * (high - low)[:, None]
    return PromptBatch(
        image=torch.arange(count) * slices // count,
        label=torch.ones(count, dtype=torch.int64),
        boxes=torch.stack([low.floor(), high.ceil()], dim=2),
        points=points,
        point_labels=torch.tensor([1, 1, 0]).expand(count, 3).contiguous(),
        mask_logits=4 * torch.randn(count, *shape),
    )


@torch.no_grad()
def stock_decode(backend: Float32Backend, embedding: Embedding, groups: list[PromptBatch]) -> Tensor:
    """Decode groups of prompts, each about one image, with segment-anything's own decoder: ``(M, H, W)`` logits."""
    sam, frame, found = backend.sam, Frame(embedding.image_shape, backend.preprocessing.side), []
    low_side = sam.prompt_encoder.mask_input_size[0]
    for group in groups:
        prompts = group.to(backend.device)
        sparse, dense = sam.prompt_encoder(
            points=(frame.points_to_frame(prompts.points), prompts.point_labels),
            boxes=frame.boxes_to_frame(prompts.boxes),
            masks=frame.masks_to_frame(prompts.mask_logits, low_side),
        )
        low, _ = sam.mask_decoder(
            image_embeddings=embedding.features[FEATURES][int(group.image[0])][None],
            image_pe=sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        found.append(frame.logits_to_image(low[:, 0]))
    return torch.cat(found)


def report(timings: dict[str, Timing], prompts: int, difference: float, largest: float) -> str:
    """Return the table and the verdict."""
    first = timings[ONE_BY_ONE]
    rows = [
        [
            name,
            f"{prompts / timing.median:.4g}",
            f"{first.median / timing.median:.3g} x",
            f"{first.cpu_median / timing.cpu_median:.3g} x",
        ]
        for name, timing in timings.items()
    ]
    header = ["decoding", "prompts / s", "speed-up, wall time", "speed-up, processor time"]
    held = "holds" if difference <= BOUND else "MISSED"
    return (
        f"{table(header, rows)}\n\nLargest difference of logits: {difference:.2g} (bound {BOUND:g}: {held}; "
        f"largest logit {largest:.3g})"
    )


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano", choices=sorted(FAMILIES))
    parser.add_argument("--random", action="store_true", help="random weights: for speed, they are as good as any")
    parser.add_argument("--encode", action="store_true", help="encode slices instead of drawing embeddings")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--slices", type=int, default=9)
    parser.add_argument("--shape", type=int, nargs=2, default=(256, 216), help="size of a slice")
    parser.add_argument("--sam-batch-size", type=int, default=16, help="the setting sam: {batch_size: ...}")
    parser.add_argument("--repeats", type=int, default=7, help="timed rounds")
    add_machine_arguments(parser)
    args = parser.parse_args(argv)
    with torch.no_grad(), on_machine(args) as device:
        torch.backends.cudnn.allow_tf32 = False
        print(describe_machine(device, args.threads))
        backend = build(args.model, args.random, device, args.sam_batch_size)
        embedding = make_embedding(backend, args.slices, tuple(args.shape), args.encode)
        prompts = make_prompts(args.prompts, args.slices, tuple(args.shape))
        weights = "random" if args.random else "real"
        print(f"{args.model} with {weights} weights, {args.prompts} prompts on {args.slices} slices {args.shape}\n")
        print(compare(backend, embedding, prompts, args.repeats))


def compare(backend: Float32Backend, embedding: Embedding, prompts: PromptBatch, repeats: int) -> str:
    """Measure all ways of decoding and return the report."""
    single = [prompts.select(slice(i, i + 1)) for i in range(len(prompts))]
    grouped = [prompts.select(prompts.image == image) for image in prompts.image.unique()]
    ways: dict[str, Callable[[], Tensor]] = {
        ONE_BY_ONE: lambda: stock_decode(backend, embedding, single),
        BY_IMAGE: lambda: stock_decode(backend, embedding, grouped),
        AT_ONCE: lambda: backend.decode(embedding, prompts).logits,
    }
    wanted, got = ways[ONE_BY_ONE](), ways[AT_ONCE]()
    difference = float((wanted - got).abs().max())
    timings = interleave(ways, repeats, backend.device)
    return report(timings, len(prompts), difference, float(wanted.abs().max()))


if __name__ == "__main__":
    main()
