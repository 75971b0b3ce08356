"""How ``torch.compile`` treats networks that see batches of several sizes."""

from __future__ import annotations

import torch

GRAPHS = 32  # of one network: modes, sizes of batches, with and without gradients; torch gives up compiling after 8


def compile_each_size_of_batch() -> None:
    """Let every size of batch have a graph of its own, in this process.

    nnU-Net's labeled batches have one size. Unlabeled ones may have another, a teacher's networks share the code of the
    student's: at the second size torch compiles a graph of changing sizes, without inductor's layout of convolutions.
    """
    torch._dynamo.config.automatic_dynamic_shapes = False
    torch._dynamo.config.cache_size_limit = max(GRAPHS, torch._dynamo.config.cache_size_limit)
