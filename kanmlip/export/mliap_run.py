"""One evaluation of an ML-IAP model, with what LAMMPS does around it: ghost atoms, exchanges between neighbours' copies, pair forces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kanmlip.data.graph import Graph


@dataclass(frozen=True)
class OneProcess:
    """Stands for LAMMPS's communication where one process has all atoms: ghosts are copies of their owners.

    Attributes:
        owner: Index of each ghost's atom [G].
        atoms: Atoms that are no ghosts.
    """

    owner: Tensor
    atoms: int

    def forward_exchange(self, features: Tensor, out: Tensor, _: int) -> None:
        """Give each ghost its owner's features: [N + G, width] in ``out``."""
        out[: self.atoms] = features[: self.atoms]
        out[self.atoms :] = features[self.owner]

    def reverse_exchange(self, gradient: Tensor, out: Tensor, _: int) -> None:
        """Add up the gradients of an atom and of its ghosts."""
        out[self.atoms :] = 0
        out[: self.atoms] = gradient[: self.atoms]
        out[: self.atoms].index_add_(0, self.owner, gradient[self.atoms :])


def ghosts(graph: Graph) -> tuple[Tensor, Tensor]:
    """LAMMPS's view of the neighbours of one structure: each one outside of the cell is an atom of its own, a ghost.

    Returns:
        Index of each ghost's owner [G], and of each edge's neighbour among atoms and then ghosts [E].
    """
    neighbour = graph.edge_index[1]
    outside = graph.edge_cell_shift.ne(0).any(1)
    owner = neighbour[outside]
    copies = neighbour.clone()
    copies[outside] = graph.positions.shape[0] + torch.arange(len(owner), device=owner.device)
    return owner, copies


def vectors(graph: Graph) -> Tensor:
    """From each edge's centre to its neighbour in one structure, [E, 3] Å."""
    centre, neighbour = graph.edge_index
    return graph.positions[neighbour] - graph.positions[centre] + graph.edge_cell_shift.to(graph.cell) @ graph.cell[0]


def evaluate_mliap(model: Any, graph: Graph, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Energy [] eV and forces [N, 3] eV/Å of one structure.

    Args:
        model: MACE's ``LAMMPS_MLIAP_MACE``.
        graph: One structure, float64 on the CPU.
        dtype: Of the network.
    """
    atoms = graph.positions.shape[0]
    centre, neighbour = graph.edge_index
    owner, copies = ghosts(graph)
    species = [int(z) for z in model.model.atomic_numbers]
    types = torch.tensor([species.index(int(z)) for z in torch.cat([graph.atomic_numbers, graph.atomic_numbers[owner]])])
    batch = {
        "vectors": vectors(graph).to(dtype),
        "node_attrs": torch.nn.functional.one_hot(types, len(species)).to(dtype),
        "edge_index": torch.stack([copies, centre]),
        "batch": torch.zeros(atoms, dtype=torch.int64),
        "lammps_class": OneProcess(owner, atoms),
        "natoms": (atoms, len(owner)),
    }
    energy, _, pair = model.model(batch)
    forces = torch.zeros(atoms, 3, dtype=dtype)
    # As LAMMPS adds them up: the pair's force on its centre, and the opposite on the neighbour, a ghost's on its owner.
    forces.index_add_(0, centre, pair.detach()).index_add_(0, neighbour, -pair.detach())
    return energy.detach(), forces
