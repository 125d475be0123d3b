"""A potential that takes milliseconds: pair energies from a small network, to test the trainer without an upstream model."""

from __future__ import annotations

import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from torch import Tensor, nn

from kanmlip.data.graph import Graph
from kanmlip.models.potential import EnergyPotential


class PairPotential(EnergyPotential):
    """E = Σ_edges f(r) (1 - r/r_c)³, f a network of one hidden layer."""

    def __init__(self, cutoff: float = 3.5, dtype: torch.dtype = torch.float64, seed: int = 0) -> None:
        torch.manual_seed(seed)
        super().__init__(nn.Sequential(nn.Linear(1, 16), nn.SiLU(), nn.Linear(16, 1)).to(dtype))
        self.cutoff = cutoff

    def energy(self, graph: Graph, positions: Tensor, cell: Tensor) -> Tensor:
        i, j = graph.edge_index
        shift = torch.bmm(graph.edge_cell_shift.to(cell.dtype).unsqueeze(1), cell[graph.batch[i]]).squeeze(1)
        r = (positions[j] - positions[i] + shift).norm(dim=1, keepdim=True)
        dtype = next(self.upstream.parameters()).dtype
        pair = self.upstream((r - 2.9).to(dtype)).to(r.dtype) * (1 - r / self.cutoff).clamp_min(0) ** 3
        return torch.zeros(graph.num_structures, dtype=r.dtype, device=r.device).index_add(0, graph.batch[i], pair.squeeze(1))


def pair_frames(count: int, seed: int = 0, sizes: tuple[int, ...] = (1, 2)) -> list[Atoms]:
    """Silver cells of 4 or 8 atoms labelled by a fixed pair potential."""
    from kanmlip.data.neighbours import frame_to_graph

    teacher = PairPotential(seed=99).eval()
    frames = []
    for index in range(count):
        atoms = bulk("Ag", cubic=True).repeat((sizes[index % len(sizes)], 1, 1))
        atoms.rattle(0.1, seed=1000 * seed + index)
        output = teacher(frame_to_graph(atoms, 3.5), compute_stress=True)
        stress = output["stress"][0].numpy()[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        atoms.calc = SinglePointCalculator(atoms, energy=float(output["energy"]), forces=output["forces"].numpy(), stress=stress)
        frames.append(atoms)
    return frames
