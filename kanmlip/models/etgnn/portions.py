"""A batch cut into portions of whole structures, so that what triplets need and become stays in the cache of a CPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kanmlip.models.etgnn.geometry import Geometry

# Features of a portion's triplets: 2048 × 128 of them in float32 are 1 MB.
CPU_FEATURES = 2048 * 128


@dataclass(frozen=True)
class Portion:
    """The triplets of some structures.

    Attributes:
        first: [T'], edge k→j among those of the portion.
        second: [T'], edge j→i.
        edge_values: Values of the portion's edges, each [E', ...].
    """

    first: Tensor
    second: Tensor
    edge_values: list[Tensor]


def portions(geometry: Geometry, edge_values: Sequence[Tensor], features: int) -> Iterator[Portion]:
    """Cut a batch; on a GPU, which would have to be asked for the sizes and gains nothing, the whole of it is one portion.

    Args:
        geometry: The batch, edges and triplets ordered by structure.
        edge_values: Values of all edges, each [E, ...].
        features: Of a triplet.
    """
    most = max(1, CPU_FEATURES // features)
    if geometry.first.device.type != "cpu" or geometry.first.shape[0] <= most:
        yield Portion(geometry.first, geometry.second, list(edge_values))
        return
    edges, triplets = _cut(geometry.edges_per_structure.tolist(), geometry.triplets_per_structure.tolist(), most)
    # Splits, not slices: their gradient is put together once instead of once a portion.
    firsts, seconds = torch.split(geometry.first, triplets), torch.split(geometry.second, triplets)
    columns = [torch.split(value, edges) for value in edge_values]
    before = 0
    for index, count in enumerate(edges):
        yield Portion(firsts[index] - before, seconds[index] - before, [column[index] for column in columns])
        before += count


def _cut(edges: Sequence[int], triplets: Sequence[int], most: int) -> tuple[list[int], list[int]]:
    """Edges and triplets of each portion, from those of each structure and the triplets that a portion may have."""
    cut_edges, cut_triplets = [0], [0]
    for of_edges, of_triplets in zip(edges, triplets, strict=True):
        if cut_triplets[-1] and cut_triplets[-1] + of_triplets > most:
            cut_edges.append(0)
            cut_triplets.append(0)
        cut_edges[-1] += of_edges
        cut_triplets[-1] += of_triplets
    return cut_edges, cut_triplets
