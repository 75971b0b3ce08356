"""Networks as methods meet them: real ones of nnU-Net, wrapped, compiled, without encoder."""

from __future__ import annotations

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from tiny_students import Student
from torch import Tensor, nn

from nnunet_semisam.errors import UserError
from nnunet_semisam.methods.parts.networks import Finest, evaluating, finest, forward_with, unwrap

SIZE = {2: (16, 16), 3: (8, 16, 16)}


def unet(architecture: type[nn.Module], dims: int, deep_supervision: bool = True) -> nn.Module:
    torch.manual_seed(0)
    conv, norm = ((nn.Conv2d, nn.InstanceNorm2d), (nn.Conv3d, nn.InstanceNorm3d))[dims - 2]
    return architecture(
        input_channels=1,
        n_stages=3,
        features_per_stage=(4, 6, 8),
        conv_op=conv,
        kernel_sizes=3,
        strides=(1, 2, 2),
        **{"n_conv_per_stage" if architecture is PlainConvUNet else "n_blocks_per_stage": (1, 1, 1)},
        num_classes=3,
        n_conv_per_stage_decoder=(1, 1),
        conv_bias=True,
        norm_op=norm,
        norm_op_kwargs={"affine": True},
        nonlin=nn.LeakyReLU,
        deep_supervision=deep_supervision,
    )


def ddp_of(network: nn.Module) -> nn.Module:
    """What nnU-Net builds is DDP around a compiled network; the wrapper's constructor needs a process group."""
    wrapper = nn.parallel.DistributedDataParallel.__new__(nn.parallel.DistributedDataParallel)
    nn.Module.__init__(wrapper)
    wrapper.module = network
    return wrapper


def levels(output: Tensor | list[Tensor]) -> list[Tensor]:
    return list(output) if isinstance(output, (list, tuple)) else [output]


def test_finest_output_is_the_first():
    a, b = torch.zeros(1), torch.ones(1)
    assert finest([a, b]) is a
    assert finest((a, b)) is a
    assert finest(b) is b


def test_compiled_and_ddp_networks_are_unwrapped():
    plain = Student(2)
    assert unwrap(plain) is plain
    compiled = torch.compile(plain)
    assert unwrap(compiled) is plain
    assert unwrap(ddp_of(compiled)) is plain


@pytest.mark.parametrize("architecture", [PlainConvUNet, ResidualEncoderUNet])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("deep_supervision", [False, True])
def test_without_a_change_features_give_the_plain_forward_pass(architecture, dims, deep_supervision):
    network = unet(architecture, dims, deep_supervision)
    images = torch.randn(2, 1, *SIZE[dims])
    shapes = []

    def look(features: list[Tensor]) -> list[Tensor]:
        shapes.extend(tuple(each.shape[1:]) for each in features)
        return features

    with torch.no_grad():
        expected, found = levels(network(images)), levels(forward_with(network, images, look))
        through_ddp = levels(forward_with(ddp_of(network), images, look))
    assert len(found) == len(expected) == (2 if deep_supervision else 1)
    for ours, again, theirs in zip(found, through_ddp, expected, strict=True):
        assert torch.equal(ours, theirs)
        assert torch.equal(again, theirs)
    assert shapes[:3] == [(c, *(side // 2**i for side in SIZE[dims])) for i, c in enumerate((4, 6, 8))]


@pytest.mark.parametrize("dims", [2, 3])
def test_changed_features_change_the_logits_and_carry_gradients(dims):
    network = unet(PlainConvUNet, dims)
    images = torch.randn(2, 1, *SIZE[dims])
    dropped = finest(forward_with(network, images, lambda features: [torch.zeros_like(each) for each in features]))
    assert torch.equal(dropped[0], dropped[1])  # nothing is left of the images
    finest(forward_with(network, images, lambda features: [2 * each for each in features])).square().mean().backward()
    assert all(each.grad is not None for each in network.encoder.parameters())


def test_network_without_encoder_is_refused_with_what_to_do():
    with pytest.raises(UserError, match=r"but Conv2d has no such parts\. Choose plans .*PlainConvUNet, Residual"):
        forward_with(torch.nn.Conv2d(1, 2, 1), torch.zeros(1, 1, 8, 8), lambda features: features)


@pytest.mark.parametrize("training", [True, False])
def test_eval_mode_lasts_as_long_as_it_is_needed(training):
    network = Student(2, batch_norm=True).train(training)
    with evaluating(ddp_of(network)):
        assert not network.trunk[1].training
    assert network.training == training
    assert network.trunk[1].training == training


def test_mode_comes_back_after_an_error():
    network = Student(2).train()
    with pytest.raises(RuntimeError), evaluating(network):
        network(torch.zeros(1, 5, 8, 8))  # five channels instead of one
    assert network.training


def test_cases_are_predicted_without_the_compiled_graph():
    """A whole case comes patch by patch; the graph that is trained is of batches, and shall stay so."""
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    for wrap in (lambda network: network, torch.compile, ddp_of):
        network = unet(PlainConvUNet, 2)
        network.compile(backend=backend)
        images = torch.rand(1, 1, *SIZE[2])
        torch.testing.assert_close(Finest(wrap(network))(images), unet(PlainConvUNet, 2)(images)[0])
    assert compiled == []
