"""The one batch type that every model, trainer and benchmark shares: periodic structures as a graph with labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

INTEGER_FIELDS = (
    "atomic_numbers",
    "edge_index",
    "edge_cell_shift",
    "batch",
    "num_atoms",
    "num_edges",
    "frame",
    "triplets",
    "num_triplets",
)
FLOAT_FIELDS = ("positions", "cell")


def _no_triplets() -> Tensor:
    return torch.empty(2, 0, dtype=torch.int64)


@dataclass(frozen=True)
class Graph:
    """A batch of S structures with N atoms, E directed edges and, for models that ask for them, T triplets in all.

    The vector of edge e = (i, j) is ``positions[j] - positions[i] + edge_cell_shift[e] @ cell[batch[i]]``, with
    ``i = edge_index[0, e]`` the centre and ``j = edge_index[1, e]`` its neighbour. Edges are ordered by structure and centre.
    Where a radius alone decides, every pair appears in both directions; a list of the nearest so many neighbours has
    edges without their reverse.

    Attributes:
        positions: [N, 3], Å.
        atomic_numbers: [N], int64.
        cell: [S, 3, 3], rows are lattice vectors, Å; ASE's cell, with zero rows along open directions that have none.
        pbc: [S, 3], bool.
        edge_index: [2, E], int64.
        edge_cell_shift: [E, 3], int64, whole lattice vectors.
        batch: [N], int64, the structure of each atom.
        num_atoms: [S], int64.
        num_edges: [S], int64.
        frame: [S], int64, the frame's index in its source, for error messages and predictions.
        labels: ``energy`` [S] eV, ``forces`` [N, 3] eV/Å, ``stress`` [S, 3, 3] eV/Å³ (ASE's sign); absent ones are left out.
        triplets: [2, T], int64, pairs of edges of which the first ends where the second starts; none unless a model asks for them.
        num_triplets: [S], int64; zeros if not given.
    """

    positions: Tensor
    atomic_numbers: Tensor
    cell: Tensor
    pbc: Tensor
    edge_index: Tensor
    edge_cell_shift: Tensor
    batch: Tensor
    num_atoms: Tensor
    num_edges: Tensor
    frame: Tensor
    labels: Mapping[str, Tensor] = field(default_factory=dict)
    triplets: Tensor = field(default_factory=_no_triplets)
    num_triplets: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))

    def __post_init__(self) -> None:
        if self.num_triplets.shape != self.num_atoms.shape:
            object.__setattr__(self, "num_triplets", torch.zeros_like(self.num_atoms))

    @property
    def num_structures(self) -> int:
        """S."""
        return int(self.num_atoms.shape[0])

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Graph:
        """Move every tensor to ``device`` and cast the floating ones (positions, cell, labels) to ``dtype``."""
        moved = {name: getattr(self, name).to(device=device) for name in (*INTEGER_FIELDS, "pbc")}
        moved |= {name: getattr(self, name).to(device=device, dtype=dtype) for name in FLOAT_FIELDS}
        labels = {name: label.to(device=device, dtype=dtype) for name, label in self.labels.items()}
        return replace(self, **moved, labels=labels)


def batch_graphs(graphs: Sequence[Graph]) -> Graph:
    """Join graphs into one batch; only labels that every graph has are kept.

    Args:
        graphs: At least one graph, all of one dtype and on one device.
    """
    atoms_before = torch.cumsum(torch.tensor([0] + [g.positions.shape[0] for g in graphs[:-1]]), 0).tolist()
    structures_before = torch.cumsum(torch.tensor([0] + [g.num_structures for g in graphs[:-1]]), 0).tolist()
    edges_before = torch.cumsum(torch.tensor([0] + [g.edge_index.shape[1] for g in graphs[:-1]]), 0).tolist()
    names = ("positions", "atomic_numbers", "cell", "pbc", "edge_cell_shift", "num_atoms", "num_edges", "num_triplets", "frame")
    joined = {name: torch.cat([getattr(g, name) for g in graphs]) for name in names}
    common = set.intersection(*(set(g.labels) for g in graphs))
    return Graph(
        edge_index=torch.cat([g.edge_index + n for g, n in zip(graphs, atoms_before, strict=True)], dim=1),
        triplets=torch.cat([g.triplets + e for g, e in zip(graphs, edges_before, strict=True)], dim=1),
        batch=torch.cat([g.batch + s for g, s in zip(graphs, structures_before, strict=True)]),
        labels={name: torch.cat([g.labels[name] for g in graphs]) for name in sorted(common)},
        **joined,
    )
