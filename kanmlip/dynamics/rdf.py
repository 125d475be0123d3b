"""Radial distribution functions of a trajectory, one a pair of species, right for cells smaller than the range too."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from kanmlip.errors import ConfigError
from kanmlip.experiment.atomic import write_text


@dataclass(frozen=True)
class RadialDistribution:
    """g(r): how many atoms there are at a distance, relative to atoms without any order.

    Attributes:
        distance: [B], centres of the bins, Å.
        g: Pair of species such as ``Ag-Ag``, in the order of atomic numbers → [B].
        frames: Structures that were counted.
    """

    distance: NDArray[np.float64]
    g: dict[str, NDArray[np.float64]]
    frames: int

    def write_csv(self, path: Path) -> None:
        """One row a bin: distance in Å, then g of every pair."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["r_A", *(f"g_{pair}" for pair in self.g)])
        for index, r in enumerate(self.distance):
            writer.writerow([f"{r:.4f}", *(f"{values[index]:.6g}" for values in self.g.values())])
        write_text(path, text.getvalue())


def radial_distribution(frames: Iterable[Atoms], range_A: float = 8.0, bins: int = 200) -> RadialDistribution:  # noqa: N803 - the unit
    """Average g(r) over structures.

    Periodic images count, so that the range may be longer than half the cell, where ASE's own function stops.

    Args:
        frames: Structures that are periodic in all directions, of the same species.
        range_A: Å.
        bins: Between 0 and the range.

    Raises:
        ConfigError: If there are no structures, or one has no volume to be relative to.
    """
    from matscipy.neighbours import neighbour_list

    edges = np.linspace(0.0, range_A, bins + 1)
    shell = 4 / 3 * np.pi * np.diff(edges**3)
    total: dict[str, NDArray[np.float64]] = {}
    count = 0
    for atoms in frames:
        if not atoms.pbc.all():
            raise ConfigError("g(r) needs structures that are periodic in all three directions; this trajectory's are not")
        i, j, distance = neighbour_list("ijd", positions=atoms.positions, cell=np.array(atoms.cell), pbc=atoms.pbc, cutoff=range_A)
        present = sorted(set(atoms.numbers.tolist()))
        for first, second in combinations_with_replacement(present, 2):
            chosen = (atoms.numbers[i] == first) & (atoms.numbers[j] == second)
            found = np.histogram(distance[chosen], edges)[0]
            expected = (atoms.numbers == first).sum() * (atoms.numbers == second).sum() / atoms.get_volume() * shell
            name = f"{chemical_symbols[first]}-{chemical_symbols[second]}"
            total[name] = total.get(name, np.zeros(bins)) + found / expected
        count += 1
    if count == 0:
        raise ConfigError("there are no structures to count distances in; let the simulation run longer")
    return RadialDistribution((edges[1:] + edges[:-1]) / 2, {name: values / count for name, values in total.items()}, count)
