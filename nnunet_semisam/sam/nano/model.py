"""The nano SAM: segment-anything's own ``Sam``, small enough to ship with the package and to run on a CPU.

Prompt encoder, two-way transformer and mask decoder are segment-anything's classes. Three things differ from a
full-size model: the image encoder is a small convolutional network; prompts are, besides SAM's tokens, drawn into a map
that is added to the image embedding; and a few convolutions look at image and map together before the transformer.
Shapes: ``M`` prompts, ``P`` points, ``S`` the side of the input in pixels.
"""

from __future__ import annotations

import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import Tensor, nn

from nnunet_semisam.sam.nano.encoder import GROUPS, NanoEncoder, ResidualBlock
from nnunet_semisam.sam.preprocessing import NANO

DIM = 128
LOGIT_RANGE = 8.0  # mask prompts beyond are as good as certain
POINT_RADIUS = 3.0  # standard deviation of a drawn point, in pixels of the input


class NanoPromptEncoder(PromptEncoder):
    """segment-anything's prompt encoder, plus a drawing of box and points that is added to the dense embedding.

    The drawing has five channels at the resolution of mask prompts: inside the box, level of the ellipse in the box,
    foreground points, background points, and one where a mask is given.
    """

    CHANNELS = 5

    def __init__(self, dim: int, embedding_size: int, image_size: int) -> None:
        super().__init__(
            dim, (embedding_size, embedding_size), (image_size, image_size), mask_in_chans=32, activation=nn.ReLU
        )
        self.drawing = nn.Sequential(nn.Conv2d(self.CHANNELS, 64, 4, stride=4), nn.ReLU(), nn.Conv2d(64, dim, 1))

    def _embed_points(self, points: Tensor, labels: Tensor, pad: bool) -> Tensor:
        with torch.autocast(points.device.type, enabled=False):  # eight bits of mantissa would lose the position
            return super()._embed_points(points.float(), labels, pad)

    def _embed_boxes(self, boxes: Tensor) -> Tensor:
        with torch.autocast(boxes.device.type, enabled=False):
            return super()._embed_boxes(boxes.float())

    def get_dense_pe(self) -> Tensor:
        """Return the positional encoding of the embedding's grid, ``(1, dim, S / 8, S / 8)``, always in float32."""
        with torch.autocast(self.no_mask_embed.weight.device.type, enabled=False):
            return super().get_dense_pe()

    def forward(
        self, points: tuple[Tensor, Tensor] | None, boxes: Tensor | None, masks: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Embed prompts; arguments and results are those of segment-anything's ``PromptEncoder.forward``.

        Args:
            points: Coordinates ``(M, P, 2)``, x before y, pixels, and labels ``(M, P)``.
            boxes: ``(M, 4)``, x0 y0 x1 y1, pixels.
            masks: Logits, ``(M, 1, S / 2, S / 2)``.
        """
        masks = None if masks is None else masks.clamp(-LOGIT_RANGE, LOGIT_RANGE) / LOGIT_RANGE
        sparse, dense = super().forward(points, boxes, masks)
        return sparse, dense + self.drawing(self.draw(len(sparse), points, boxes, masks))

    def draw(
        self, count: int, points: tuple[Tensor, Tensor] | None, boxes: Tensor | None, masks: Tensor | None
    ) -> Tensor:
        """Return the drawing, ``(M, 5, S / 2, S / 2)``, in [-1, 1]; channels of absent prompts are 0."""
        device = self.no_mask_embed.weight.device
        height, width = self.mask_input_size
        x = (torch.arange(width, device=device) + 0.5) * (self.input_image_size[1] / width)
        y = (torch.arange(height, device=device) + 0.5) * (self.input_image_size[0] / height)
        canvas = torch.zeros((count, self.CHANNELS, height, width), device=device)
        if boxes is not None:
            self._draw_boxes(canvas, boxes.reshape(-1, 4).float() + 0.5, x, y)
        if points is not None:
            self._draw_points(canvas, points[0].float() + 0.5, points[1], x, y)
        if masks is not None:
            canvas[:, 4] = 1.0
        return canvas

    @staticmethod
    def _draw_boxes(canvas: Tensor, boxes: Tensor, x: Tensor, y: Tensor) -> None:
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        radius = ((boxes[:, 2:] - boxes[:, :2]) / 2).clamp_min(0.5)
        across = ((x - centre[:, :1]) / radius[:, :1]).abs()
        along = ((y - centre[:, 1:]) / radius[:, 1:]).abs()
        soft_x = ((1 - across) * radius[:, :1] / 2 + 0.5).clamp(0, 1)  # one mask pixel wide: boxes move smoothly
        soft_y = ((1 - along) * radius[:, 1:] / 2 + 0.5).clamp(0, 1)
        canvas[:, 0] = soft_y[:, :, None] * soft_x[:, None, :]
        canvas[:, 1] = (1 - across[:, None, :] ** 2 - along[:, :, None] ** 2).clamp(-1, 1)

    @staticmethod
    def _draw_points(canvas: Tensor, coords: Tensor, labels: Tensor, x: Tensor, y: Tensor) -> None:
        across = torch.exp(-0.5 * ((x - coords[..., :1]) / POINT_RADIUS) ** 2)  # (M, P, width)
        along = torch.exp(-0.5 * ((y - coords[..., 1:]) / POINT_RADIUS) ** 2)
        for channel, label in ((2, 1), (3, 0)):
            there = (labels == label).to(across.dtype)[..., None]
            canvas[:, channel] = torch.einsum("mph,mpw->mhw", along * there, across).clamp_max(1.0)


class Fusion(nn.Module):
    """A few convolutions that see image and drawn prompts together: detail at stride 8, context at stride 16.

    Args:
        dim: Channels of the embedding.
        width: Channels of the convolutions at stride 8.
        context: Channels of the convolutions at stride 16.
    """

    def __init__(self, dim: int, width: int = 64, context: int = 96) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(dim, width, 1)
        self.context = nn.Sequential(
            nn.Conv2d(width, context, 2, stride=2),
            ResidualBlock(context),
            ResidualBlock(context),
            ResidualBlock(context),
            nn.Conv2d(context, width, 1),
            nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=False),
        )
        self.detail = ResidualBlock(width)
        self.restore = nn.Sequential(nn.GroupNorm(GROUPS, width), nn.ReLU(), nn.Conv2d(width, dim, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(M, dim, h, w)`` to the same shape."""
        squeezed = self.squeeze(x)
        return x + self.restore(self.detail(squeezed + self.context(squeezed)))


class NanoTransformer(TwoWayTransformer):
    """segment-anything's two-way transformer behind :class:`Fusion`.

    The stock transformer moves nothing between image positions but through the prompt tokens; with convolutions in
    front of it one layer is enough.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(depth=1, embedding_dim=dim, num_heads=4, mlp_dim=4 * dim)
        self.fusion = Fusion(dim)

    def forward(self, image_embedding: Tensor, image_pe: Tensor, point_embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens and image embedding as segment-anything's ``TwoWayTransformer.forward`` does."""
        return super().forward(self.fusion(image_embedding), image_pe, point_embedding)


def build_nano_sam(image_size: int = NANO.side, dim: int = DIM, widths: tuple[int, int, int] = (48, 96, 192)) -> Sam:
    """Return a nano SAM with random weights, in evaluation mode.

    Args:
        image_size: Side of the square input in pixels; a multiple of 16.
        dim: Width of prompt encoder and mask decoder.
        widths: Channels of the image encoder at strides 4, 8 and 16.
    """
    sam = Sam(
        image_encoder=NanoEncoder(image_size, dim, widths),
        prompt_encoder=NanoPromptEncoder(dim, image_size // NanoEncoder.stride, image_size),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=NanoTransformer(dim),
            transformer_dim=dim,
            iou_head_depth=3,
            iou_head_hidden_dim=dim,
            activation=nn.ReLU,
        ),
        pixel_mean=list(NANO.mean),
        pixel_std=list(NANO.std),
    )
    # Half of a step's time went into these two kinds of layers; their inputs are normalised or clamped already.
    sam.mask_decoder.output_upscaling[1] = nn.Identity()
    sam.prompt_encoder.mask_downscaling[1] = nn.Identity()
    sam.prompt_encoder.mask_downscaling[4] = nn.Identity()
    return sam.eval()


def half_frame(sam: Sam) -> Sam:
    """Return a view of a nano SAM that works on windows of half the frame's side, at a quarter of the cost.

    All parameters are shared. The window lies in the middle of the frame: with half the frequencies, the positional
    encoding of pixel ``p`` of the window is that of pixel ``p + S / 4`` of the frame.
    """
    side = sam.image_encoder.img_size
    view = build_nano_sam(side // 2, sam.prompt_encoder.embed_dim)
    view.image_encoder, view.mask_decoder = sam.image_encoder, sam.mask_decoder
    for name, module in sam.prompt_encoder.named_children():
        if name != "pe_layer":
            setattr(view.prompt_encoder, name, module)
    frequencies = sam.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
    view.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix = frequencies / 2
    return view.to(frequencies.device)
