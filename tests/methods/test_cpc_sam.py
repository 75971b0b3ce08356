import pytest
import torch
from tiny_students import (
    NOW,
    SPATIAL,
    K,
    labels_of,
    loader_batches,
    make_batches,
    make_method,
    make_pass,
    make_step,
    tiny_sam,
)

from nnunet_semisam.errors import UserError
from nnunet_semisam.methods.parts.cross_prompts import central_and_random_points
from nnunet_semisam.methods.parts.slices import SliceNetwork, slices_of


def test_points_are_the_deepest_and_a_random_voxel_of_the_largest_component():
    masks = torch.zeros(2, 2, 20, 20, dtype=torch.bool)
    masks[0, 0, 3:10, 5:12] = True
    masks[0, 0, 15:18, 15:18] = True  # a smaller one
    masks[1, 1, 0:3, 0:20] = True
    (central, there), (drawn, also_there) = central_and_random_points(masks)
    assert there.tolist() == also_there.tolist() == [[True, False], [False, True]]
    assert central[0, 0].tolist() == [6, 8]
    assert central[1, 1, 0] == 1
    row, column = drawn[0, 0].int().tolist()
    assert 3 <= row < 10
    assert 5 <= column < 12
    draws = {tuple(central_and_random_points(masks)[1][0][0, 0].tolist()) for _ in range(10)}
    assert len(draws) > 1


def test_slices_of_volumes_are_drawn_alike_for_all_arguments():
    volume = torch.arange(2 * 1 * 5 * 3 * 4, dtype=torch.float32).view(2, 1, 5, 3, 4)
    (every,) = slices_of(None, volume)
    assert every.shape == (10, 1, 3, 4)
    assert torch.equal(every[7], volume[1, :, 2])
    some, twice = slices_of(4, volume, 2 * volume)
    assert len(some) == 4
    assert torch.equal(twice, 2 * some)
    flat = torch.zeros(2, 1, 3, 4)
    assert slices_of(None, flat)[0] is flat
    assert slices_of(1, flat)[0].shape == (1, 1, 3, 4)


@pytest.mark.parametrize("has_regions", [False, True])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_sam_predicts_patches_slice_by_slice_without_prompts(dims, has_regions):
    method, _ = make_method("cpc_sam", dims, has_regions)
    images = torch.randn(2, 1, *SPATIAL[dims])
    with torch.no_grad():
        logits = method.sam(images)
    assert logits.shape == (2, K, *SPATIAL[dims])
    if not has_regions:
        assert logits[:, 0].eq(0).all()  # the background of a softmax
    if dims == 3:
        with torch.no_grad():
            alone = method.sam(images[1:, :, 2])
        torch.testing.assert_close(logits[1:, :, 2], alone, atol=1e-4, rtol=1e-4)
    assert isinstance(method.sam, SliceNetwork)


def test_both_decoders_learn_the_labels_and_what_the_other_makes_of_their_points():
    method, student = make_method("cpc_sam")
    labeled, unlabeled = make_batches()
    alone = method.owned_loss(student, labeled, None, -1.0)  # before the cross prompts
    assert alone.item() > 0
    method.owned_loss(student, labeled, unlabeled, NOW).backward()
    decoders = method.sam.decoders
    assert all(token.abs().sum() > 0 for token in decoders.tokens.grad)
    for decoder in decoders.decoders:
        assert decoder.mask_tokens.weight.grad[0].abs().sum() > 0


def test_points_change_what_a_decoder_says():
    method, _ = make_method("cpc_sam")
    decoders, images = method.sam.decoders, torch.randn(1, 1, 12, 10)
    there = torch.ones(1, K - 1, dtype=torch.bool)
    with torch.no_grad():
        features = decoders.encode(images)
        first, second = (
            decoders.decode(0, features, (12, 10), (torch.full((1, K - 1, 2), place), there)) for place in (1.0, 8.0)
        )
        nowhere = decoders.decode(0, features, (12, 10), (torch.full((1, K - 1, 2), 1.0), ~there))
        elsewhere = decoders.decode(0, features, (12, 10), (torch.full((1, K - 1, 2), 8.0), ~there))
    assert not torch.allclose(first, second)
    torch.testing.assert_close(nowhere, elsewhere)  # a class without a point has none, wherever it would be


def test_the_sam_learns_from_labels():
    torch.manual_seed(0)
    method, student = make_method("cpc_sam", weight=0.0, cross_start=1.0)
    labeled, unlabeled = make_batches()
    blocks = labeled.target.clone()
    blocks[:] = 0
    blocks[..., 3:9, 3:8] = 1
    labeled = type(labeled)(blocks.float(), (blocks, *labeled.levels[1:]), 1)
    step = make_step(make_pass(method), student)
    before = method.owned_loss(student, labeled, unlabeled, NOW).item()
    for _ in range(25):
        step(*loader_batches(labeled, unlabeled), NOW)
    assert method.owned_loss(student, labeled, unlabeled, NOW).item() < 0.7 * before


def test_the_network_is_shipped_and_the_sam_measured():
    method, student = make_method("cpc_sam")
    assert method.inference_network(student) is student
    assert method.prompting_network(student) is method.sam


def test_the_encoder_may_stay_as_it_is():
    method, _ = make_method("cpc_sam", train_encoder=False)
    assert not any(p.requires_grad for p in method.sam.decoders.image_encoder.parameters())
    assert len(method.optimizer.param_groups[0]["params"]) > 0


@pytest.mark.parametrize("train_encoder", [True, False])
def test_the_parts_of_an_adapted_sam_which_come_frozen_learn(train_encoder):
    backend = tiny_sam("nano")
    backend.sam.requires_grad_(False)
    decoders = backend.class_decoders(K - 1, 2, train_encoder)
    still = {name.split(".")[0] for name, parameter in decoders.named_parameters() if not parameter.requires_grad}
    assert still == (set() if train_encoder else {"image_encoder"})


@pytest.mark.parametrize("channel", [0, 1])
def test_the_sam_sees_the_channel_of_the_settings_and_no_mean(channel):
    images = torch.stack([torch.full((2, 3, 4), 1.0), torch.full((2, 3, 4), -1.0)], dim=1)  # their mean shows nothing
    network = SliceNetwork(torch.nn.Identity(), labels_of(True), channel)
    assert network(images).unique().tolist() == [[1.0], [-1.0]][channel]
    with pytest.raises(UserError, match="names a channel that the images lack: they have 2"):
        SliceNetwork(torch.nn.Identity(), labels_of(True), 2)(images)
