"""The order in which a training set is seen: a pure function of seed and epoch, so that a resumed run needs no sampler state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from kanmlip.data.graph import Graph, batch_graphs


def shuffled_batches(graphs: Sequence[Graph], batch_size: int, seed: int, epoch: int, device: torch.device) -> Iterator[Graph]:
    """All graphs once, in random batches on ``device``; the last batch may be smaller."""
    order = np.random.default_rng([seed, epoch]).permutation(len(graphs))
    for start in range(0, len(order), batch_size):
        yield batch_graphs([graphs[i] for i in order[start : start + batch_size]]).to(device)


def batches(graphs: Sequence[Graph], batch_size: int, device: torch.device) -> Iterator[Graph]:
    """All graphs once, in their order."""
    for start in range(0, len(graphs), batch_size):
        yield batch_graphs(graphs[start : start + batch_size]).to(device)
