"""Work in parts that fit into memory, and the precision of a device."""

import itertools

import pytest
import torch
from torch import nn

from nnunet_semisam.errors import UserError
from nnunet_semisam.sam.base import Embedding, PromptBatch
from nnunet_semisam.sam.parts import Parts
from nnunet_semisam.sam.precision import computes_in_bfloat16
from nnunet_semisam.sam.preprocessing import Preprocessing
from nnunet_semisam.sam.slice_backend import SliceBackend, images_at_once, prompts_in_bytes


class Device:
    """Holds ``size`` items at once."""

    def __init__(self, size: int) -> None:
        self.size, self.tried = size, []

    def compute(self, part: slice) -> list[int]:
        self.tried.append(part.stop - part.start)
        if part.stop - part.start > self.size:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 32 GiB.\nAnd much more text.")
        return list(range(100))[part]


def test_parts_are_halved_until_they_fit_and_stay_so():
    device, parts = Device(size=3), Parts(16, "one image")
    assert list(itertools.chain(*parts.each(20, device.compute))) == list(range(20))
    assert device.tried == [16, 8, 4, *[2] * 10]
    device.tried.clear()
    parts.each(4, device.compute)
    assert device.tried == [2, 2]  # a training asks for every case again


def test_apples_gpus_say_so_without_a_class_of_error():
    tried = []

    def compute(part: slice) -> int:
        tried.append(part.stop - part.start)
        if len(tried) == 1:
            raise RuntimeError("MPS backend out of memory (MPS allocated: 9 GB).")
        return 1

    assert Parts(4, "one image").each(4, compute) == [1, 1]
    assert tried == [4, 2, 2]


def test_an_item_that_does_not_fit_is_told_with_what_helps():
    with pytest.raises(UserError, match=r"does not hold one image: CUDA out of memory.*32 GiB\. Take a smaller SAM"):
        Parts(4, "one image").each(3, Device(size=0).compute)


def test_other_errors_are_not_taken_for_a_full_memory():
    def fail(part: slice) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        Parts(4, "one image").each(3, fail)


class Counting(SliceBackend):
    """Notes how many images it is given at once."""

    def __init__(self, side: int, batch_size: int = 16) -> None:
        preprocessing = Preprocessing(side=side)
        super().__init__(nn.Identity(), torch.device("cpu"), preprocessing, "none", batch_size=batch_size)
        self.encoded, self.moved = [], []

    def _encode_chunk(self, inputs):
        self.encoded.append(len(inputs))
        return {"image": inputs[:, :, :4, :4]}

    def _decode_chunk(self, maps, prompts, frame):
        self.moved.append(len(maps["image"]))
        return maps["image"][:, 0], torch.ones(len(prompts))


@pytest.mark.parametrize(
    ("device", "side", "expected"),
    [
        ("cuda", 1024, 2),
        ("cuda", 512, 8),
        ("cuda", 2048, 1),
        ("cuda", 64, 16),
        ("cpu", 1024, 1),
        ("cpu", 256, 2),
        ("cpu", 224, 16),
    ],
)
def test_fewer_of_large_images_are_encoded_at_once_and_on_a_cpu_two_or_one(device, side, expected):
    assert images_at_once(torch.device(device), side, 16) == expected


@pytest.mark.parametrize(("side", "expected"), [(512, [2, 2, 1]), (128, [3, 2])])
def test_a_backend_encodes_that_many_at_once(side, expected):
    backend = Counting(side, batch_size=3)
    backend.encode(torch.rand(5, 1, 16, 16))
    assert backend.encoded == expected


def test_a_cpu_decodes_few_prompts_of_a_large_model_at_once():
    """The largest array of one prompt on 256 channels of 64 x 64: 32 of 256 x 256, float32, 8 MiB."""
    maps = {"fine": torch.zeros(1, 8, 256, 256), "image": torch.zeros(1, 256, 64, 64)}
    assert prompts_in_bytes(Embedding(maps, (9, 9))) == 4
    assert prompts_in_bytes(Embedding({"image": torch.zeros(1, 1024, 256, 256)}, (9, 9))) == 1
    backend = Counting(1024)
    large = Embedding({"image": torch.zeros(1, 256, 64, 64)}, (9, 9))
    boxes = torch.tensor([[0.0, 4.0], [0.0, 4.0]]).expand(5, 2, 2)
    backend.decode(large, PromptBatch(torch.zeros(5, dtype=int), torch.ones(5, dtype=torch.int64), boxes=boxes))
    assert backend.moved == [4, 1]


def test_every_prompt_gets_the_features_of_its_own_image():
    backend = Counting(16, batch_size=2)
    images = torch.linspace(0, 1, 16).expand(5, 1, 16, 16) ** torch.arange(1, 6).view(5, 1, 1, 1)
    embedding = backend.encode(images)
    image = torch.tensor([4, 0, 4, 2, 2])
    boxes = torch.tensor([[0.0, 16.0], [0.0, 16.0]]).expand(5, 2, 2)
    found = backend.decode(embedding, PromptBatch(image, torch.ones(5, dtype=torch.int64), boxes=boxes))
    one_by_one = [
        backend.decode(embedding.select(slice(i, i + 1)), PromptBatch(torch.zeros(1, dtype=int), image[:1], boxes[:1]))
        for i in image.tolist()
    ]
    torch.testing.assert_close(found.logits, torch.cat([one.logits for one in one_by_one]))


@pytest.mark.parametrize(
    ("device", "capability", "on_cpu", "expected"),
    [
        ("cuda", (8, 6), False, True),
        ("cuda", (7, 5), True, False),  # a T4 emulates it
        ("cpu", None, True, True),
        ("cpu", None, False, False),
        ("mps", None, True, False),
    ],
)
def test_bfloat16_is_used_where_it_is_fast(monkeypatch, device, capability, on_cpu, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert computes_in_bfloat16(torch.device(device), on_cpu) is expected
