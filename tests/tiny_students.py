"""Networks, batches and methods small enough to be looked at voxel by voxel."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from nnunet_semisam.gate.class_gate import ClassGate, GatedTarget
from nnunet_semisam.gate.settings import GateSettings
from nnunet_semisam.labels import Labels
from nnunet_semisam.methods import METHODS, Host, LabeledBatch, PseudoLabel, SSLMethod, UnlabeledBatch
from nnunet_semisam.methods.parts.losses import dice_and_cross_entropy
from nnunet_semisam.methods.settings import UntargetedSettings
from nnunet_semisam.sam.nano.model import build_nano_sam
from nnunet_semisam.sam.preprocessing import NANO
from nnunet_semisam.sam.segment_anything import SegmentAnythingBackend
from nnunet_semisam.settings import Settings
from nnunet_semisam.training.optimisation import Optimisation, optimizer_like
from nnunet_semisam.training.step import SemiSupervisedStep
from nnunet_semisam.training.unlabeled_pass import UnlabeledPass

K = 3
NOW = 0.7  # progress
CPU = torch.device("cpu")
SPATIAL = {2: (12, 10), 3: (6, 8, 10)}
AT_ONCE = {"start": 0.0, "rampup": 0.0, "confidence": 0.0}  # of the method's block: untrained networks are unsure
FAST = {"cpc_sam": {"sam_lr": 0.03, "cross_start": 0.0}}  # a SAM of random weights has to learn in a few steps
OPEN = {"dice": 0.0, "area_factor": 1e6}  # of the block `gate`
LEARNING = [name for name in METHODS.names() if METHODS.get(name).uses_unlabeled]


def labels_of(has_regions: bool, heads: int = K) -> Labels:
    return Labels.of_regions(heads) if has_regions else Labels.of_classes(heads)


class Encoder(nn.Module):
    """Convolution, norm, nonlinearity; ``seen`` holds the images of all forward passes."""

    def __init__(self, dims: int, batch_norm: bool) -> None:
        super().__init__()
        conv = (nn.Conv2d, nn.Conv3d)[dims - 2]
        norm = ((nn.InstanceNorm2d, nn.InstanceNorm3d), (nn.BatchNorm2d, nn.BatchNorm3d))[batch_norm][dims - 2]
        self.trunk = nn.Sequential(conv(1, 4, 3, padding=1), norm(4, affine=True), nn.LeakyReLU())
        self.output_channels = [4]
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> list[Tensor]:
        self.seen.append(x.detach())
        return [self.trunk(x)]


class Decoder(nn.Module):
    """A head; a list over three levels with deep supervision, each with a head of its own."""

    def __init__(self, dims: int, heads: int, deep_supervision: bool) -> None:
        super().__init__()
        conv = (nn.Conv2d, nn.Conv3d)[dims - 2]
        self.head, self.coarse = conv(4, heads, 1), nn.ModuleList([conv(4, heads, 1), conv(4, heads, 1)])
        self.pool = (F.avg_pool2d, F.avg_pool3d)[dims - 2]
        self.deep_supervision = deep_supervision

    def forward(self, features: list[Tensor]) -> Tensor | list[Tensor]:
        (finest,) = features
        if not self.deep_supervision:
            return self.head(finest)
        return [self.head(finest), *(head(self.pool(finest, 2**i)) for i, head in enumerate(self.coarse, start=1))]


class Student(nn.Module):
    """Encoder and decoder, and a list over levels with deep supervision, as nnU-Net's networks."""

    def __init__(self, dims: int, heads: int = K, deep_supervision: bool = True, batch_norm: bool = False) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(dims, batch_norm), Decoder(dims, heads, deep_supervision)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        return self.decoder(self.encoder(x))

    @property
    def seen(self) -> list[Tensor]:
        return self.encoder.seen

    @property
    def trunk(self) -> nn.Module:
        return self.encoder.trunk

    @property
    def head(self) -> nn.Module:
        return self.decoder.head


class Pixelwise(nn.Module):
    """Logits are the image's own channels: what a test puts in, comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x


def deep_loss(outputs: list[Tensor], targets: list[Tensor]) -> Tensor:
    """A mean over voxels on each level; labels from ``K`` on, and the last channel of regions, are ignored."""
    return sum(_level_loss(logits, target) for logits, target in zip(outputs, targets, strict=True))


def _level_loss(logits: Tensor, target: Tensor) -> Tensor:
    heads = logits.shape[1]
    if target.dtype == torch.bool:
        valid = 1.0 - target[:, heads:].float() if target.shape[1] > heads else 1.0
        return (valid * F.binary_cross_entropy_with_logits(logits, target[:, :heads].float(), reduction="none")).mean()
    index = target[:, 0].long()
    return F.cross_entropy(logits, index.masked_fill(index >= heads, -100))


def build_settings(name: str, **blocks: Any) -> Settings:
    """Return settings of a method whose terms are active at once; ``method=...`` changes the method's own block."""
    own = {**AT_ONCE, **FAST.get(name, {}), **blocks.pop("method", {})}
    gate = {**OPEN, **blocks.pop("gate", {})}
    return Settings.of(method=name, **{name: own, "gate": gate, **blocks})


def tiny_sam(name: str) -> SegmentAnythingBackend:
    """Return a SAM of the package's own kind with random weights, 32 pixels wide; ``name`` is not looked at."""
    sam = build_nano_sam(image_size=32, dim=16, widths=(8, 8, 8))
    return SegmentAnythingBackend(sam, CPU, replace(NANO, side=32), weights="random")


def build_host(
    labels: Labels, build_network: Callable[..., nn.Module], optimizer: Optimizer | None = None, dims: int = 2
) -> Host:
    """Return what a trainer offers to its method."""
    template = optimizer or torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)

    def supervised_loss(network: nn.Module, labeled: LabeledBatch) -> Tensor:
        return deep_loss(network(labeled.data), list(labeled.levels))

    def optimizer_for(parameters: Iterable[nn.Parameter]) -> Optimizer:
        return optimizer_like(template, parameters)

    return Host(
        labels=labels,
        build_network=build_network,
        supervised_loss=supervised_loss,
        optimizer_for=optimizer_for,
        build_sam=tiny_sam,
        steps=100,
        image_channels=1,
        spatial_dims=dims,
    )


def target_settings(name: str, **settings: Any) -> dict[str, Any]:
    """Return settings of a method but those of a target, of one that has none and would refuse them."""
    if not issubclass(METHODS.get(name).Settings, UntargetedSettings):
        return settings
    return {key: value for key, value in settings.items() if key not in ("loss", "confidence")}


def make_method(
    name: str, dims: int = 2, has_regions: bool = False, batch_norm: bool = False, **settings: Any
) -> tuple[SSLMethod, Student]:
    """Return a method and its student; ``settings`` are of the method's own block."""
    labels = labels_of(has_regions)
    method = METHODS.get(name)(build_settings(name, method=settings).block(name), labels)
    torch.manual_seed(0)
    student = Student(dims, batch_norm=batch_norm)

    def build_network(deep_supervision: bool = False) -> Student:
        return Student(dims, K, deep_supervision, batch_norm)

    method.setup(student, build_host(labels, build_network, dims=dims))
    method.on_train_start(student)
    return method, student


def make_pass(method: SSLMethod, gate: dict[str, Any] | None = None, **arguments: Any) -> UnlabeledPass:
    """Return the driver of a method, with a gate that is open unless ``gate`` says otherwise."""
    return UnlabeledPass(method, ClassGate(GateSettings(**{**OPEN, **(gate or {})}), method.labels), **arguments)


class StoredPseudoLabels:
    """A pseudo-label term of constant weight: what the loader gives is the target."""

    def __init__(self, labels: Labels, weight: float = 0.5) -> None:
        self.labels, self.constant = labels, weight

    def weight(self, progress: float) -> float:
        return self.constant

    def pseudo_label(self, label: Tensor, confidence: Tensor, weight: Tensor) -> PseudoLabel:
        if self.labels.has_regions:
            return PseudoLabel(label.float(), confidence)
        one_hot = torch.zeros((len(label), self.labels.heads, *label.shape[2:]))
        return PseudoLabel(one_hot.scatter_(1, label.long().clamp(min=0), 1.0), confidence)

    def loss(self, gated: GatedTarget) -> Tensor:
        return dice_and_cross_entropy(gated.logits, gated.target, gated.confidence, gated.class_weights, self.labels)


def make_step(
    unlabeled_pass: UnlabeledPass, network: nn.Module, optimizer: Optimizer | None = None, **arguments: Any
) -> SemiSupervisedStep:
    """Return what takes steps with a method as the trainer does."""
    method = unlabeled_pass.method
    optimizer = optimizer or torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    optimisation = Optimisation(optimizer, method.optimizers(), arguments.pop("scaler", None))
    return SemiSupervisedStep(
        network=network,
        loss=arguments.pop("loss", deep_loss),
        method=method,
        unlabeled_pass=unlabeled_pass,
        optimisation=optimisation,
        device=CPU,
        random_share=arguments.pop("random_share", 0.5),
        **arguments,
    )


def noise(generator: torch.Generator, patches: int, channels: int, dims: int) -> Tensor:
    return torch.randn((patches, channels, *SPATIAL[dims]), generator=generator)


def annotation(generator: torch.Generator, patches: int, dims: int, has_regions: bool, ignore: bool = False) -> Tensor:
    """Return random labels that show every class, as nnU-Net's loader gives them."""
    values = noise(generator, patches, K + ignore, dims)
    return values > 0 if has_regions else values.argmax(dim=1, keepdim=True).to(torch.int16)


def levels_of(target: Tensor) -> tuple[Tensor, ...]:
    """Return an annotation at the resolutions of a :class:`Student`."""
    sizes = [[max(1, size // 2**level) for size in target.shape[2:]] for level in range(3)]
    return tuple(F.interpolate(target.float(), size, mode="nearest-exact").to(target.dtype) for size in sizes)


def make_batches(
    dims: int = 2,
    has_regions: bool = False,
    with_pseudo: bool = True,
    seed: int = 1,
    labeled: int = 2,
    unlabeled: int = 2,
    ignore: bool = False,
) -> tuple[LabeledBatch, UnlabeledBatch]:
    """Return random patches whose labels show every class."""
    generator = torch.Generator().manual_seed(seed)
    target = annotation(generator, labeled, dims, has_regions, ignore)
    labeled_batch = LabeledBatch(noise(generator, labeled, 1, dims), levels_of(target), num_random=1)
    pseudo = None
    if with_pseudo:
        label = annotation(generator, unlabeled, dims, has_regions)
        pseudo = PseudoLabel(
            LabeledBatch(label, (label,), 1).one_hot(labels_of(has_regions))[0],
            noise(generator, unlabeled, 1, dims).sigmoid(),
        )
    weak = noise(generator, unlabeled, 1, dims)
    strong = weak + 0.3 * noise(generator, unlabeled, 1, dims)
    return labeled_batch, UnlabeledBatch(weak, strong, pseudo, weak + 0.3 * noise(generator, unlabeled, 1, dims))


def loader_batches(labeled: LabeledBatch, unlabeled: UnlabeledBatch) -> tuple[dict, dict]:
    """Return the two batches as the loaders give them."""
    return (
        {"data": labeled.data, "target": list(labeled.levels)},
        {"weak": unlabeled.weak, "strong": unlabeled.strong, "strong2": unlabeled.strong2, "keys": []},
    )


def logits_of(labels: Tensor, strength: float = 20.0) -> Tensor:
    """Return logits ``(B, K, *S)`` that predict these labels ``(B, *S)``."""
    return strength * torch.eye(K)[labels].movedim(-1, 1)


def stripes() -> Tensor:
    """Labels ``(2, 4, 6)``: two columns of each class."""
    return torch.tensor([0, 0, 1, 1, 2, 2]).expand(2, 4, 6)


def one_level(data: Tensor, target: Tensor, num_random: int = 2) -> LabeledBatch:
    return LabeledBatch(data, (target,), num_random)


def labeled_stripes() -> LabeledBatch:
    return one_level(logits_of(stripes()), stripes()[:, None].to(torch.int16), num_random=1)
