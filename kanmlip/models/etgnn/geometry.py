"""What the blocks of the network need of a batch: distances, directions, angles, and the edges of each atom as dense blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor

from kanmlip.data.graph import Graph

Distances = TypeVar("Distances", Tensor, NDArray[Any])
# Å. A crystal may have many distances of just r_t or r_c: a cubic cell of 4 Å is no rarity. Were the limit there, rounding would
# decide for each of them, in another way after a rotation; a little below it no round number is.
RANGE_MARGIN = 1e-6


def within(distance: Distances, limit: float) -> Distances:
    """1[d < limit], false for a distance that is the limit but for rounding: [E], bool, from distances [E] and a limit in Å."""
    return distance < limit - RANGE_MARGIN


@dataclass(frozen=True)
class Geometry:
    """A batch with S structures, N atoms, E edges j→i and T triplets k→j→i, floating tensors in float64.

    Attributes:
        batch: [N], structure of each atom.
        atoms_per_structure: [S].
        edges_per_structure: [S].
        triplets_per_structure: [S].
        source: [E], atom j of each edge, ascending.
        target: [E], atom i of each edge.
        distance: [E], Å.
        direction: [E, 3], unit vectors e_ji = (r_i − r_j)/d_ji.
        shift: [E, 3], int64, whole lattice vectors from j to i.
        first: [T], edge k→j of each triplet.
        second: [T], edge j→i.
    """

    batch: Tensor
    atoms_per_structure: Tensor
    edges_per_structure: Tensor
    triplets_per_structure: Tensor
    source: Tensor
    target: Tensor
    distance: Tensor
    direction: Tensor
    shift: Tensor
    first: Tensor
    second: Tensor

    @property
    def num_atoms(self) -> int:
        """N."""
        return int(self.batch.shape[0])


def measure(graph: Graph) -> Geometry:
    """Distances and directions of a batch, differentiable by its positions [N, 3] and cell."""
    source, target = graph.edge_index
    cell = graph.cell.index_select(0, graph.batch.index_select(0, source))
    offset = torch.bmm(graph.edge_cell_shift.to(cell.dtype).unsqueeze(1), cell).squeeze(1)
    vector = (graph.positions.index_select(0, target) - graph.positions.index_select(0, source) + offset).to(torch.float64)
    distance = torch.linalg.vector_norm(vector, dim=1)
    return Geometry(
        batch=graph.batch,
        atoms_per_structure=graph.num_atoms,
        edges_per_structure=graph.num_edges,
        triplets_per_structure=graph.num_triplets,
        source=source,
        target=target,
        distance=distance,
        direction=vector / distance.unsqueeze(1),
        shift=graph.edge_cell_shift,
        first=graph.triplets[0],
        second=graph.triplets[1],
    )


@dataclass(frozen=True)
class Junctions:
    """Every atom j with the edges k→j that end at it and the edges j→i that start at it, padded to K_in and K_out slots.

    A sum over k of something that depends on k→j and on the angle then is one matrix product an atom: no triplet is listed.

    Attributes:
        slot_in: [E], slot of each edge among those that end at its target, in the flattened [N, K_in].
        slot_out: [E], slot of each edge among those that start at its source, in the flattened [N, K_out].
        shape: N, K_in, K_out.
        cosine: [N, K_out, K_in], cos α of j→i and k→j, float64; anything in empty slots.
        allowed: [N, K_out, K_in], bool: not the way back to where k→j came from; anything in empty slots.
    """

    slot_in: Tensor
    slot_out: Tensor
    shape: tuple[int, int, int]
    cosine: Tensor
    allowed: Tensor


def junctions(geometry: Geometry) -> Junctions:
    """Sort the edges of a batch by the atoms they meet at."""
    atoms = geometry.num_atoms
    slot_in, k_in = _slots(geometry.target, atoms)
    slot_out, k_out = _slots(geometry.source, atoms)

    def pad(values: Tensor, slots: Tensor, width: int) -> Tensor:
        empty = values.new_zeros(atoms * width, *values.shape[1:])
        return empty.index_copy(0, slots, values).view(atoms, width, *values.shape[1:])

    cosine = torch.bmm(pad(geometry.direction, slot_out, k_out), pad(geometry.direction, slot_in, k_in).transpose(1, 2))
    # An edge and its reverse have the same atoms at their far ends and opposite lattice vectors.
    forth = pad(torch.cat([geometry.target.unsqueeze(1), geometry.shift], dim=1), slot_out, k_out)
    back = pad(torch.cat([geometry.source.unsqueeze(1), -geometry.shift], dim=1), slot_in, k_in)
    allowed = (forth.unsqueeze(2) != back.unsqueeze(1)).any(-1)
    return Junctions(slot_in, slot_out, (atoms, k_in, k_out), cosine, allowed)


def _slots(group: Tensor, groups: int) -> tuple[Tensor, int]:
    """Slot of each element in a flattened [groups, width], and the width: the size of the largest group, 1 at least."""
    counts = torch.bincount(group, minlength=groups)
    width = max(int(counts.max()), 1)  # no axis of length zero: a batch without edges is a batch, too
    order = torch.argsort(group, stable=True)
    starts = counts.cumsum(0) - counts
    position = torch.arange(group.shape[0], device=group.device) - starts.index_select(0, group.index_select(0, order))
    slots = torch.empty_like(group)
    slots[order] = position + width * group.index_select(0, order)
    return slots, width
