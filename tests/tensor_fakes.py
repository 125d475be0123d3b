"""Potentials of tensors that take milliseconds, to test training, metrics and runs without a network."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor, nn

from kanmlip.data.graph import Graph
from kanmlip.models.potential import Potential

QUARTZ = Path(__file__).parent / "data" / "quartz"


class SpeciesTensors(Potential):
    """Charges: a learnable tensor a species plus a learnable weight of Σ_j e_ij⊗e_ij, less the mean; dielectric tensor: one for all."""

    def __init__(self, dtype: torch.dtype = torch.float64, seed: int = 0) -> None:
        torch.manual_seed(seed)
        super().__init__(nn.Module())
        self.upstream.table = nn.Parameter(0.1 * torch.randn(120, 3, 3, dtype=dtype))
        self.upstream.weight = nn.Parameter(torch.zeros(1, dtype=dtype))
        self.upstream.dielectric = nn.Parameter(torch.zeros(3, 3, dtype=dtype))

    def run_upstream(self, graph: Graph) -> None:
        """There is no module to call."""

    def forward(self, graph: Graph, compute_stress: bool = False) -> dict[str, Tensor]:
        i, j = graph.edge_index
        shift = torch.bmm(graph.edge_cell_shift.to(graph.cell.dtype).unsqueeze(1), graph.cell[graph.batch[i]]).squeeze(1)
        vectors = graph.positions[j] - graph.positions[i] + shift
        units = (vectors / vectors.norm(dim=1, keepdim=True)).to(self.upstream.weight.dtype)
        dyads = torch.zeros(len(graph.positions), 3, 3, dtype=units.dtype).index_add(0, i, units.unsqueeze(2) * units.unsqueeze(1))
        charges = self.upstream.table[graph.atomic_numbers] + self.upstream.weight * dyads
        sums = torch.zeros(graph.num_structures, 3, 3, dtype=units.dtype).index_add(0, graph.batch, charges)
        charges = charges - (sums / graph.num_atoms.view(-1, 1, 1)).index_select(0, graph.batch)
        return {
            "born_effective_charges": charges,
            "dielectric_tensor": self.upstream.dielectric.expand(graph.num_structures, 3, 3),
        }


def quartz() -> Atoms:
    """Alpha-quartz as ASE reads our own file: charges in ``calc.results``, [9, 9]."""
    return ase.io.read(QUARTZ / "quartz.xyz", format="extxyz")


def random_rotation(seed: int, improper: bool = False) -> NDArray[np.float64]:
    """[3, 3], orthogonal."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q)) * (-1 if improper else 1)


def rotated(atoms: Atoms, rotation: NDArray[np.float64]) -> Atoms:
    """The structure turned, without its labels."""
    return Atoms(numbers=atoms.numbers, positions=atoms.positions @ rotation.T, cell=np.asarray(atoms.cell) @ rotation.T, pbc=atoms.pbc)
