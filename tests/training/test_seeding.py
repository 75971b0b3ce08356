import random

import numpy as np
import torch

from nnunet_semisam.training.seeding import seed_everything


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), torch.rand(1).item()


def seeded(*args) -> tuple[float, float, float]:
    seed_everything(*args)
    return draw()


def test_same_seed_repeats_python_numpy_and_torch():
    first, second = seeded(7), seeded(7)
    assert first == second
    assert all(a != b for a, b in zip(first, seeded(8), strict=True))


def test_ranks_and_epochs_draw_different_numbers():
    draws = {seeded(7, epoch, rank) for epoch in range(3) for rank in range(3)}
    assert len(draws) == 9


def test_no_seed_leaves_the_generators_alone():
    seed_everything(7)
    expected = draw()
    seed_everything(7)
    seed_everything(None)
    assert draw() == expected


def test_any_integer_is_a_seed():
    assert len({seeded(seed) for seed in (-1, 0, 2**40 + 3)}) == 3
