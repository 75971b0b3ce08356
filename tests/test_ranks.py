"""Collective operations in two gloo processes, and that they do nothing in one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import nn

from nnunet_semisam import ranks
from nnunet_semisam.methods.parts.ema import MovingAverage

WORLD = 2


class Counted(nn.Module):
    """A parameter, a buffer and a counter, with other values on each rank."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((2,), value))
        self.register_buffer("mean", torch.tensor([value]))
        self.register_buffer("count", torch.tensor(int(value)))
        self.register_buffer("seen", torch.tensor([value == 3.0]))


def parameters_with(*gradients: float | None) -> list[nn.Parameter]:
    parameters = [nn.Parameter(torch.zeros(1)) for _ in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = None if gradient is None else torch.tensor([gradient])
    return parameters


def results_of(rank: int) -> dict:
    """Do everything once with numbers that tell the rank."""
    module = Counted(3.0 + rank)
    ranks.broadcast_state(module.state_dict())
    average = MovingAverage(Counted(3.0 + rank), decay=0.9)
    ranks.broadcast_state(average.state_dict())
    # first: on both ranks; second: on rank 0 alone; third: on none
    parameters = parameters_with(1.0 + 2 * rank, None if rank else 8.0, None)
    ranks.average_gradients(iter(parameters))
    ranks.average_gradients([])
    ranks.barrier()
    patience = ranks._patient_group()._get_backend(torch.device("cpu")).options._timeout if ranks.several() else None
    return {
        "several": ranks.several(),
        "patience": patience and patience.total_seconds(),
        "sum": ranks.sum_over_ranks(torch.tensor([1.0, 10.0]) * (1 + rank)).tolist(),
        "module": [module.weight.tolist(), module.mean.item(), module.count.item(), module.seen.item()],
        "average": average.network.weight.tolist(),
        "gradients": [None if p.grad is None else p.grad.item() for p in parameters],
        "from_rank_zero": ranks.from_rank_zero({"round": rank}),
        "gathered": ranks.gathered(f"rank {rank}"),
    }


def run_rank(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD)
    try:
        torch.save(results_of(rank), Path(folder) / f"rank_{rank}.pth")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(run_rank, args=(str(folder),), nprocs=WORLD)
    return [torch.load(folder / f"rank_{rank}.pth", weights_only=True) for rank in range(WORLD)]


def test_two_processes_agree_on_everything(two_ranks):
    assert two_ranks[0] == two_ranks[1]


def test_two_processes_by_hand(two_ranks):
    found = two_ranks[1]
    assert found["several"]
    assert found["sum"] == [3.0, 30.0]
    assert found["module"] == [[3.0, 3.0], 3.0, 3, True]
    assert found["average"] == [3.0, 3.0]
    assert found["gradients"] == [2.0, 4.0, None]  # a missing gradient counts as 0; one that nobody has stays missing
    assert found["from_rank_zero"] == {"round": 0}
    assert found["gathered"] == ["rank 0", "rank 1"]


def test_a_process_that_works_alone_for_long_is_waited_for(two_ranks):
    """NCCL gives up after ten minutes; a calibration with a large SAM takes longer."""
    assert [found["patience"] for found in two_ranks] == [24 * 60 * 60.0] * 2


def test_one_process_keeps_what_it_has():
    found = results_of(1)
    assert not found["several"]
    assert found["sum"] == [2.0, 20.0]
    assert found["module"] == [[4.0, 4.0], 4.0, 4, False]
    assert found["gradients"] == [3.0, None, None]
    assert found["from_rank_zero"] == {"round": 1}
    assert found["gathered"] == ["rank 1"]
