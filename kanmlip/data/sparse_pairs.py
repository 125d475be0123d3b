"""Pairs of atoms in cells that are mostly empty, where a search that divides space into bins would fill the memory with empty ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kanmlip.data.labels import Array

Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
# Bins of a search are allowed for each atom, and in any case; the latter take 0.3 ms and 2 MB.
BINS_PER_ATOM, BINS_ALLOWED = 64, 1 << 18


def mostly_empty(cell: Array, atoms: int, cutoff: float) -> bool:
    """Whether bins as wide as the cutoff would be far more than there are atoms.

    Args:
        cell: [3, 3], Å.
        atoms: Their number.
        cutoff: Å.
    """
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    return bool(np.prod(np.maximum(1.0, heights / cutoff)) > max(BINS_ALLOWED, BINS_PER_ATOM * atoms))


def sparse_pairs(cell: Array, positions: Array, pbc: NDArray[np.bool_], cutoff: float) -> Pairs:
    """Every directed pair within the cutoff, from a tree of the atoms and of those images that are near the cell.

    Args:
        cell: [3, 3], Å, with a volume.
        positions: [N, 3], Å.
        pbc: [3], which directions are periodic.
        cutoff: Å.

    Returns:
        Centres [E], neighbours [E] and whole lattice vectors [E, 3], in no order.
    """
    from scipy.spatial import cKDTree

    inverse = np.linalg.inv(cell)
    fractional = positions @ inverse
    home = np.where(pbc, np.floor(fractional), 0.0)
    reach = cutoff * np.linalg.norm(inverse, axis=0)
    atom, image = np.arange(len(positions)), np.zeros((len(positions), 3))
    for axis in np.flatnonzero(pbc):
        steps = np.arange(-np.ceil(reach[axis]), np.ceil(reach[axis]) + 1)
        atom, image = np.repeat(atom, len(steps)), np.repeat(image, len(steps), axis=0)
        image[:, axis] = np.tile(steps, len(atom) // len(steps))
        place = (fractional - home)[atom, axis] + image[:, axis]
        near = (place >= -reach[axis]) & (place <= 1 + reach[axis])
        atom, image = atom[near], image[near]
    centres, neighbours = cKDTree((fractional - home) @ cell), cKDTree(((fractional - home)[atom] + image) @ cell)
    found = centres.sparse_distance_matrix(neighbours, cutoff * (1 + 1e-9), output_type="ndarray")
    i, j = found["i"].astype(np.int64), atom[found["j"]].astype(np.int64)
    shift = (image[found["j"]] - home[j] + home[i]).astype(np.int64)
    distance = np.linalg.norm(positions[j] + shift @ cell - positions[i], axis=1)
    kept = (distance < cutoff) & ((i != j) | shift.any(axis=1))
    return i[kept], j[kept], shift[kept]
