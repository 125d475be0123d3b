"""The order in which a training set is seen: a pure function of seed and epoch, so that a resumed run needs no sampler state.

Nor does it depend on the number of processes: they divide each batch among themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from kanmlip.data.batching import Limits, Sizes, consecutive_batches, divide, epoch_batches
from kanmlip.data.graph import Graph, batch_graphs
from kanmlip.errors import ConfigError
from kanmlip.training.ranks import ALONE, Ranks


@dataclass(frozen=True)
class Part:
    """What one process has of a batch.

    Attributes:
        graph: Its structures; none if there are fewer structures than processes.
        structures: In the whole batch.
        of_structures: Share of the batch's structures that are here.
        of_atoms: Share of the batch's atoms.
    """

    graph: Graph | None
    structures: int
    of_structures: float = 1.0
    of_atoms: float = 1.0


def training_batches(
    graphs: Sequence[Graph], limits: Limits, seed: int, epoch: int, device: torch.device, ranks: Ranks = ALONE
) -> Iterator[Part]:
    """All graphs once, in random batches on ``device``; of each batch the part of this process.

    Args:
        graphs: The training set, one structure a graph, the same on every rank.
        limits: Of a whole batch.
        seed: With ``epoch``, decides the order.
        epoch: Counted from 0.
        device: Where the parts go.
        ranks: Who divides the batches.
    """
    sizes = Sizes.of(graphs)
    for batch in epoch_batches(sizes, limits, np.random.default_rng([seed, epoch])):
        yield part_of(graphs, batch, sizes, device, ranks)


def part_of(graphs: Sequence[Graph], batch: Sequence[int], sizes: Sizes, device: torch.device, ranks: Ranks) -> Part:
    """This process's part of the batch of the graphs with these numbers."""
    if ranks.size == 1:
        return Part(batch_graphs([graphs[i] for i in batch]).to(device), len(batch))
    chosen = np.asarray(batch)
    mine = chosen[divide(sizes.work[chosen], ranks.size)[ranks.rank]]
    if not len(mine):
        return Part(None, len(batch), 0.0, 0.0)
    of_atoms = int(sizes.atoms[mine].sum()) / int(sizes.atoms[chosen].sum())
    return Part(batch_graphs([graphs[i] for i in mine]).to(device), len(batch), len(mine) / len(batch), of_atoms)


def batches(graphs: Sequence[Graph], limits: Limits, device: torch.device) -> Iterator[Graph]:
    """All graphs once, in their order."""
    for batch in consecutive_batches(Sizes.of(graphs), limits):
        yield batch_graphs(graphs[batch[0] : batch[-1] + 1]).to(device)


def check_limits(limits: Limits, train: Sequence[Graph]) -> None:
    """Check that every training structure fits into a batch.

    Raises:
        ConfigError: Naming the setting, the structure and the way out.
    """
    sizes = Sizes.of(train)
    for name, limit, counts in (("atoms", limits.atoms, sizes.atoms), ("edges", limits.edges, sizes.edges)):
        if limit is not None and int(counts.max()) > limit:
            frame = int(train[int(counts.argmax())].frame[0])
            raise ConfigError(
                f"trainer.batch_{name}={limit}, but frame {frame} of the training set alone has {counts.max()} {name}; "
                f"set trainer.batch_{name}={counts.max()} or more"
            )
