"""A small structure of the species that a run knows: what compilers record with, and what written files are checked on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms

from kanmlip.data.graph import Graph
from kanmlip.errors import KanmlipError
from kanmlip.export.loading import LoadedRun

SITES = 3  # along each edge of the cube, or as many as the species need
# Of the cutoff: near enough for neighbours along edges and diagonals, far enough for forces like those of training sets.
SPACING = 0.65
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}


@dataclass(frozen=True)
class Difference:
    """What a written file and the model in memory differ by.

    Attributes:
        energy: Largest difference of a total energy, relative to its size where that is above 1 eV.
        forces: Largest difference of a force component, relative to the largest component where that is above 1 eV/Å.
    """

    energy: float
    forces: float

    def __str__(self) -> str:
        return f"|ΔE| {self.energy:.1e}, |ΔF| {self.forces:.1e}"


def probe(run: LoadedRun) -> Atoms:
    """A rattled cubic lattice of 27 atoms or more, periodic, all species in turn; always the same for a run."""
    sites = max(SITES, math.ceil(len(run.species) ** (1 / 3)))
    edge = sites * SPACING * run.config.model.cutoff
    grid = np.stack(np.meshgrid(*[np.arange(sites)] * 3, indexing="ij"), -1).reshape(-1, 3) * (edge / sites)
    numbers = np.resize(run.species, sites**3)
    atoms = Atoms(numbers=numbers, positions=grid, cell=[edge] * 3, pbc=True)
    atoms.rattle(0.05 * edge / sites, seed=0)
    return atoms


def probe_graph(run: LoadedRun) -> Graph:
    """The probe as the model's input, on its device."""
    return run.config.model.collate([probe(run)]).to(device=run.device)


def compare(expected: dict[str, torch.Tensor], energy: torch.Tensor | float, forces: torch.Tensor) -> Difference:
    """Energies [S] and forces [N, 3] against what the model in memory gives."""
    found = torch.as_tensor(energy, dtype=torch.float64).detach().cpu().reshape(-1)
    wanted = expected["energy"].detach().cpu().double().reshape(-1)
    wanted_forces = expected["forces"].detach().cpu().double()
    scale_energy, scale_forces = wanted.abs().max().clamp_min(1.0), wanted_forces.abs().max().clamp_min(1.0)
    return Difference(
        float((found - wanted).abs().max() / scale_energy),
        float((forces.detach().cpu().double() - wanted_forces).abs().max() / scale_forces),
    )


def check(difference: Difference, dtype: torch.dtype, file: str) -> Difference:
    """Refuse a file that is not the model.

    Raises:
        KanmlipError: If it differs by more than rounding, or is not finite.
    """
    tolerance = TOLERANCE[dtype]
    if not (difference.energy <= tolerance and difference.forces <= tolerance):
        raise KanmlipError(f"{file} differs from the model in memory by {difference}, more than {tolerance:g}: do not use it; report it")
    return difference
