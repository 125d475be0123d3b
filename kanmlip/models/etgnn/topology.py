"""The graph of ETGNN: edges to the nearest neighbours, whole shells by default, and triplets k→j→i of two edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from kanmlip.data.neighbours import Topology, neighbour_edges
from kanmlip.errors import DataError
from kanmlip.models.etgnn.geometry import RANGE_MARGIN, within

TOPOLOGY_VERSION = 2
# Å. Distances closer than this belong to one shell. Files give positions to about 1e-6 Å; shells that differ on purpose, by more.
SHELL_TOLERANCE = 1e-3


@dataclass(frozen=True)
class NearestNeighbours:
    """Edges j→i from each atom j to its nearest neighbours i, and triplets k→j→i with both legs within a range.

    Atom j is the centre of its edges (``edge_index[0]``) and i the neighbour, so an edge's vector is r_i − r_j. An edge j→i
    need not have a reverse: j may be among the nearest of i without i being among those of j.

    Attributes:
        cutoff: r_c in Å, beyond which there are no edges.
        max_neighbours: Neighbours of each atom; fewer where r_c holds fewer.
        whole_shells: Add neighbours as far away as the last one, so that no choice is made between equals; without it the order
            of the atoms decides, as in the authors' code.
        triplet_range: Only triplets whose legs are both shorter than this, in Å; none for all triplets.
    """

    cutoff: float
    max_neighbours: int
    whole_shells: bool
    triplet_range: float | None

    @property
    def key(self) -> str:
        """See :class:`kanmlip.data.neighbours.Connectivity`."""
        return f"etgnn {TOPOLOGY_VERSION} {self!r} {SHELL_TOLERANCE!r} {RANGE_MARGIN!r}"

    def connect(self, atoms: Atoms) -> Topology:
        """See :class:`kanmlip.data.neighbours.Connectivity`.

        Raises:
            DataError: If two atoms are at one place: there is no direction from one to the other.
        """
        edge_index, shift = neighbour_edges(atoms, self.cutoff)
        distances = lengths(atoms, edge_index, shift)
        if (distances < SHELL_TOLERANCE).any():
            one, other = edge_index[:, distances < SHELL_TOLERANCE][:, 0].tolist()
            raise DataError(
                f"atoms {one} and {other} (counted from 0) of a structure {atoms.get_chemical_formula()} are at one place, and "
                f"model=etgnn needs the direction from each atom to the next; take one of them out, or the frame"
            )
        inside = within(distances, self.cutoff)
        edge_index, shift, distances = edge_index[:, inside], shift[inside], distances[inside]
        kept = nearest(edge_index[0], distances, self.max_neighbours, self.whole_shells)
        edge_index, shift, distances = edge_index[:, kept], shift[kept], distances[kept]
        short = np.ones(len(distances), dtype=bool) if self.triplet_range is None else within(distances, self.triplet_range)
        return Topology(edge_index, shift, triplets(edge_index, shift, short))


def lengths(atoms: Atoms, edge_index: NDArray[np.int64], shift: NDArray[np.int64]) -> NDArray[np.float64]:
    """Lengths [E] of edges in Å."""
    centre, neighbour = edge_index
    vectors = atoms.positions[neighbour] - atoms.positions[centre] + shift @ np.asarray(atoms.cell, dtype=np.float64)
    return np.asarray(np.linalg.norm(vectors, axis=1), dtype=np.float64)


def nearest(centre: NDArray[np.int64], distances: NDArray[np.float64], count: int, whole_shells: bool) -> NDArray[np.bool_]:
    """Which edges go to the nearest neighbours of their centre.

    Args:
        centre: [E], ascending.
        distances: [E], Å.
        count: Neighbours of each centre.
        whole_shells: Also those as far as the last of them: on from it as long as each is within ``SHELL_TOLERANCE`` of the one before.

    Returns:
        [E], in the order of the edges.
    """
    order = np.lexsort((distances, centre))
    sorted_centre, sorted_distances = centre[order], distances[order]
    rank = np.arange(len(order)) - np.searchsorted(sorted_centre, sorted_centre)
    chosen = rank < count
    if whole_shells and len(order):
        # An edge begins a shell if it is the first of its centre or farther than the one before by more than the tolerance.
        begins = (rank == 0) | (np.diff(sorted_distances, prepend=sorted_distances[0]) > SHELL_TOLERANCE)
        shell = np.cumsum(begins) - 1
        chosen = chosen[np.flatnonzero(begins)][shell]
    kept = np.zeros(len(order), dtype=bool)
    kept[order] = chosen
    return kept


def triplets(edge_index: NDArray[np.int64], shift: NDArray[np.int64], allowed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Every pair of edges k→j and j→i except those that lead back to where they came from.

    Args:
        edge_index: [2, E], ordered by centre.
        shift: [E, 3].
        allowed: [E], which edges may be legs.

    Returns:
        [2, T]: index of k→j and of j→i, ordered by the first.
    """
    legs = np.flatnonzero(allowed)
    start, end = edge_index[:, legs]
    first_out, behind_out = np.searchsorted(start, end), np.searchsorted(start, end, side="right")
    counts = behind_out - first_out
    first = np.repeat(np.arange(len(legs)), counts)
    within = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
    second = first_out[first] + within
    returns = (start[first] == end[second]) & (shift[legs[first]] + shift[legs[second]] == 0).all(1)
    return np.stack([legs[first[~returns]], legs[second[~returns]]]).astype(np.int64)
