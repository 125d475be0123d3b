"""Which structures are the same but for rounding, for the cell's copy that each atom stands in, and for the order of the atoms.

Structures that differ by a rotation, a translation of all atoms or another choice of lattice vectors count as different: models see them
as the same, but no program that writes a file does that to a frame.

To compare few pairs, each structure gets signatures: the values of a function of an atom's place, sorted. The function is periodic and
changes by no more than some times the atom's displacement, and so does each sorted value, whatever the order of the atoms.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kanmlip.data.labels import Array

if TYPE_CHECKING:
    from ase import Atoms

# Å. Files with four decimals are off by up to 0.9e-4; in a femtosecond the atoms of a solid move by some 1e-3.
TOLERANCE = 1e-4
# Of two functions, that where the one has an extremum the other has a slope: weights and phases of the cosines along periodic directions,
# and unit vectors for the rest. None is steeper than the sum of its weights.
WEIGHTS = np.array([[1.0, 0.83, 0.71], [0.74, 1.0, 0.87]])
PHASES = np.array([[0.4, 1.3, 2.2], [2.1, 2.9, 0.7]])
OPEN_DIRECTIONS = np.array([[0.48, 0.60, 0.64], [0.64, -0.48, 0.60]])
# Å, by how much a sorted value may differ for the same structure, rounding of the cell included.
SLACK = 6 * TOLERANCE
# So many of each signature's values, with the lattice vectors, are what structures that are near are looked up by.
LOOKED_UP = 4
# Å for each atomic number, to keep species apart where atoms are matched.
SPECIES_APART = 10.0


@dataclass(frozen=True, eq=False)
class Outline:
    """What decides whether a structure is the same as another.

    Attributes:
        kind: Periodic directions and atomic numbers, sorted: equal for the same structures.
        numbers: Atomic numbers, ascending, [N].
        vectors: Those of the periodic directions, Å, [P, 3].
        positions: Å, [N, 3], of each species in the order of the first signature.
        signatures: Å, [2, N], ascending for each species.
    """

    kind: tuple[bytes, bytes]
    numbers: NDArray[np.int64]
    vectors: Array
    positions: Array
    signatures: Array


def outline(atoms: Atoms) -> Outline:
    """What to compare a structure by.

    Args:
        atoms: Without a :func:`kanmlip.data.plausibility.fault_of_structure`.
    """
    vectors = np.asarray(atoms.cell, dtype=np.float64)[atoms.pbc]
    inverse = np.linalg.pinv(vectors)
    fractional = atoms.positions @ inverse
    heights = 1 / np.linalg.norm(inverse, axis=0)
    across = atoms.positions - fractional @ vectors
    numbers = np.sort(atoms.numbers).astype(np.int64)
    settings = zip(WEIGHTS[:, : len(vectors)], PHASES[:, : len(vectors)], OPEN_DIRECTIONS, strict=True)
    values = [
        np.cos(2 * np.pi * fractional + phases) @ (weights * heights / (2 * np.pi)) + across @ direction
        for weights, phases, direction in settings
    ]
    orders = [np.lexsort((each, atoms.numbers)) for each in values]
    signatures = np.stack([each[order] for each, order in zip(values, orders, strict=True)])
    return Outline((atoms.pbc.tobytes(), numbers.tobytes()), numbers, vectors, atoms.positions[orders[0]], signatures)


def first_of_each(outlines: Sequence[Outline | None]) -> list[int]:
    """For each structure the index of the first that is the same, its own if none before it is.

    Args:
        outlines: None for what is not to be compared.
    """
    kinds: dict[tuple[bytes, bytes], list[tuple[int, Outline]]] = defaultdict(list)
    for index, found in enumerate(outlines):
        if found is not None:
            kinds[found.kind].append((index, found))
    first = list(range(len(outlines)))
    for members in kinds.values():
        indices = [index for index, _ in members]
        for place, earlier in _within_kind([found for _, found in members]).items():
            first[indices[place]] = indices[earlier]
    return first


def _within_kind(outlines: Sequence[Outline]) -> dict[int, int]:
    """Place of each structure that is the same as an earlier one → place of the first such."""
    from scipy.spatial import cKDTree

    if len(outlines) < 2:
        return {}
    signatures = np.stack([each.signatures for each in outlines], axis=1)
    looked_up = np.linspace(0, signatures.shape[2] - 1, LOOKED_UP).astype(int)
    features = np.hstack([np.stack([each.vectors.ravel() for each in outlines]), *signatures[:, :, looked_up]])
    # Medians of many equal numbers would make a balanced tree slow.
    tree = cKDTree(features, balanced_tree=False)
    counts = tree.query_ball_point(features, SLACK, p=np.inf, return_length=True)
    found: dict[int, int] = {}
    for place in np.flatnonzero(counts > 1).tolist():
        if place in found:
            continue
        near = tree.query_ball_point(features[place], SLACK, p=np.inf)
        later = np.array([other for other in near if other > place and other not in found], dtype=np.int64)
        for values in signatures:
            later = later[np.abs(values[later] - values[place]).max(axis=1) <= SLACK]
        found |= {other: place for other in later.tolist() if same(outlines[place], outlines[other])}
    return found


def same(one: Outline, two: Outline) -> bool:
    """Whether cells and places of atoms of each species agree within the tolerance."""
    if one.kind != two.kind or (np.linalg.norm(one.vectors - two.vectors, axis=1) > TOLERANCE).any():
        return False
    if _coincide(one, two.positions):
        return True
    # Rounding swaps atoms whose values in the signature are alike.
    matched = _matched(one, two)
    return matched is not None and _coincide(one, two.positions[matched])


def _coincide(one: Outline, positions: Array) -> bool:
    step = positions - one.positions
    step -= np.round(step @ np.linalg.pinv(one.vectors)) @ one.vectors
    return bool((np.linalg.norm(step, axis=1) <= TOLERANCE).all())


def _matched(one: Outline, two: Outline) -> NDArray[np.int64] | None:
    """Index of the nearest atom of the second structure for each of the first; none if two have the same."""
    from scipy.spatial import cKDTree

    lengths = np.linalg.norm(one.vectors, axis=1)
    inverse = np.linalg.pinv(one.vectors)

    def place(outlined: Outline) -> Array:
        fractional = outlined.positions @ inverse
        across = outlined.positions - fractional @ one.vectors
        along = fractional % 1.0 * lengths
        along[along >= lengths] = 0.0
        return np.hstack([along, across, SPECIES_APART * outlined.numbers[:, None]])

    box = np.concatenate([lengths, np.zeros(4)])  # zero is a direction without copies
    nearest = np.asarray(cKDTree(place(two), boxsize=box).query(place(one))[1], dtype=np.int64)
    return nearest if len(np.unique(nearest)) == len(nearest) else None
