"""A cell that has a volume whatever stands in a file for the directions that are not periodic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kanmlip.data.labels import Array

if TYPE_CHECKING:
    from ase import Atoms


def closed_cell(atoms: Atoms) -> Array:
    """[3, 3], Å: lattice vectors of the periodic directions as they are, unit vectors normal to them for the others.

    What a file says of a direction that is not periodic means nothing, and may be zero, tiny, or parallel to another vector.

    Args:
        atoms: With independent vectors along its periodic directions.
    """
    from ase.geometry.cell import complete_cell

    kept = np.where(atoms.pbc[:, None], np.asarray(atoms.cell, dtype=np.float64), 0.0)
    cell = np.array(complete_cell(kept), dtype=np.float64)
    given = kept.any(axis=1)
    cell[given] = kept[given]  # completing two vectors goes through an SVD, which rounds the third
    return cell
