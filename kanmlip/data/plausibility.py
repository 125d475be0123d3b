"""Whether a structure can be one: finite, with a cell where it is periodic, of known elements, and with room for its atoms.

What cannot be is refused here rather than where it shows: a lattice in nanometres makes neighbour lists that no memory holds, two
atoms at one place make forces that are not numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kanmlip.data.labels import has_volume

if TYPE_CHECKING:
    from ase import Atoms

# Atoms per Å³. Diamond has 0.18, hydrogen in the core of Jupiter about 1.
LARGEST_DENSITY = 3.0
# Å. The bond of H2, the shortest there is, has 0.74; a reference calculation of atoms so close does not mean anything.
SHORTEST_DISTANCE = 0.2
SEARCHED_DISTANCE = 1.0
# Å; a micrometre. Coordinates beyond lose digits that forces need, and a box of that size has too many cells to search.
LARGEST_COORDINATE = 1e4


def fault_of_structure(atoms: Atoms) -> str | None:
    """Why a structure cannot be used, or none.

    Args:
        atoms: The frame.
    """
    positions, cell = atoms.positions, np.asarray(atoms.cell)
    if not np.isfinite(positions).all() or not np.isfinite(cell).all():
        return "its positions or cell are not finite"
    if (atoms.numbers < 1).any():
        return f"atom {int(np.flatnonzero(atoms.numbers < 1)[0])} is of no element; correct its symbol"
    largest = max(np.abs(positions).max(), np.abs(cell).max())
    if largest > LARGEST_COORDINATE:
        return f"it has a coordinate of {largest:.3g} Å; check the unit"
    if not has_volume(atoms):
        return f"it is periodic (pbc={''.join('T' if periodic else 'F' for periodic in atoms.pbc)}) but its cell has no volume"
    return _crowded(atoms) or _overlapping(atoms)


def _crowded(atoms: Atoms) -> str | None:
    vectors = np.asarray(atoms.cell)[atoms.pbc]
    if not len(vectors):
        return None
    # Distance between the faces of the cell: how far an atom is from its own image at the least.
    height = 1 / np.sqrt(np.diag(np.linalg.inv(vectors @ vectors.T)).max())
    if height < SHORTEST_DISTANCE:
        return f"its cell is {height:.2g} Å thin; check the unit of the lattice (Å)"
    if atoms.pbc.all() and (density := len(atoms) / atoms.get_volume()) > LARGEST_DENSITY:
        return f"it has {density:.3g} atoms per Å³ (diamond has 0.18); check the unit of the lattice (Å)"
    return None


def _overlapping(atoms: Atoms) -> str | None:
    from kanmlip.data.closed_cell import closed_cell
    from kanmlip.data.neighbours import neighbour_edges

    # A search for so short a distance itself would divide the cell into bins a hundred times smaller.
    (centre, neighbour), shift = neighbour_edges(atoms, SEARCHED_DISTANCE)
    distance = np.linalg.norm(atoms.positions[neighbour] + shift @ closed_cell(atoms) - atoms.positions[centre], axis=1)
    centre, neighbour = centre[distance < SHORTEST_DISTANCE], neighbour[distance < SHORTEST_DISTANCE]
    if not len(centre):
        return None
    return (
        f"atoms {centre[0]} and {neighbour[0]} are less than {SHORTEST_DISTANCE:g} Å apart; an atom stands there twice, or the positions "
        f"are not in Å"
    )
