"""The same structure twice: within a file it is waste, across training and test data it makes errors look small."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from ase import Atoms


def structure_sha256(atoms: Atoms) -> str:
    """Checksum of species, positions and cell, to a millionth of an Å."""
    digest = hashlib.sha256()
    # Adding zero turns -0.0, which rounding makes of a small negative number and whose bytes are others, into 0.0.
    for array in (atoms.numbers, np.round(atoms.positions, 6) + 0.0, np.round(np.asarray(atoms.cell), 6) + 0.0):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def duplicates(structures: Sequence[str]) -> list[str]:
    """Pairs of frames with the same atoms at the same positions in the same cell, from their checksums."""
    seen: dict[str, int] = {}
    found = []
    for index, structure in enumerate(structures):
        first = seen.setdefault(structure, index)
        if first != index:
            found.append(f"frame {index} has the structure of frame {first}")
    return found


def shared(structures: Mapping[Path, Sequence[str]]) -> list[str]:
    """Pairs of files with structures in common, which must not be training and validation data of one run."""
    found = []
    for one, other in combinations(structures, 2):
        common = set(structures[one]) & set(structures[other])
        if common:
            first = next(i for i, structure in enumerate(structures[other]) if structure in common)
            found.append(f"{one} and {other} have {len(common)} structures in common (the first: frame {first} of the second)")
    return found
