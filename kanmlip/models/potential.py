"""A potential: a model that maps a batch of structures to the labels it predicts, and how energies become forces and stress."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from kanmlip.data.graph import Graph


class Potential(nn.Module, ABC):
    """What the trainer, the evaluation and the placements know of a model.

    Attributes:
        upstream: The model as its own package built it, with or without swapped modules; placements name paths in it.
    """

    upstream: nn.Module

    def __init__(self, upstream: nn.Module) -> None:
        super().__init__()
        self.upstream = upstream

    @abstractmethod
    def forward(self, graph: Graph, compute_stress: bool = False) -> dict[str, Tensor]:
        """Predict every label of the model for a batch, by name; without effect on models that have no stress: ``compute_stress``."""

    @abstractmethod
    def run_upstream(self, graph: Graph) -> None:
        """Call ``upstream`` once on a batch, without derivatives: for those who watch its modules at work."""


class EnergyPotential(Potential):
    """Energy, forces and stress from an upstream model that knows only energies.

    Forces are -dE/dr. Stress is dE/dε / V of a symmetric homogeneous strain ε of positions and cell (Knuth et al.,
    Comput. Phys. Commun. 190, 33 (2015)), which is ASE's sign. Both come from one backward pass; in training mode that
    pass is itself differentiable. Geometry and total energies are float64 whatever the network's precision.
    """

    @abstractmethod
    def energy(self, graph: Graph, positions: Tensor, cell: Tensor) -> Tensor:
        """Total energies.

        Args:
            graph: The batch; its own positions and cell are to be ignored in favour of the arguments.
            positions: [N, 3], Å, possibly strained.
            cell: [S, 3, 3], Å, possibly strained.

        Returns:
            [S], eV.
        """

    def run_upstream(self, graph: Graph) -> None:
        """See :meth:`Potential.run_upstream`."""
        with torch.no_grad():
            self.energy(graph, graph.positions, graph.cell)

    def forward(self, graph: Graph, compute_stress: bool = False) -> dict[str, Tensor]:
        """Evaluate a batch.

        Args:
            graph: A batch with positions [N, 3].
            compute_stress: Also return the stress; structures without volume get NaN there.

        Returns:
            ``energy`` [S] eV, ``forces`` [N, 3] eV/Å and, if asked for, ``stress`` [S, 3, 3] eV/Å³.
        """
        with torch.enable_grad():
            positions = graph.positions.detach().requires_grad_(True)
            strained, cell, variables = positions, graph.cell, [positions]
            if compute_stress:
                strain = torch.zeros_like(cell, requires_grad=True)
                deformation = 0.5 * (strain + strain.transpose(1, 2)) + torch.eye(3, dtype=cell.dtype, device=cell.device)
                strained = torch.bmm(positions.unsqueeze(1), deformation.index_select(0, graph.batch)).squeeze(1)
                cell = torch.bmm(cell, deformation)
                variables.append(strain)
            energy = self.energy(graph, strained, cell)
            gradients = torch.autograd.grad(energy.sum(), variables, create_graph=self.training, allow_unused=True, materialize_grads=True)
        output = {"energy": energy, "forces": -gradients[0]}
        if compute_stress:
            volume = torch.linalg.det(graph.cell).abs().view(-1, 1, 1)
            output["stress"] = torch.where(volume > 0, gradients[1] / volume.clamp_min(1e-12), torch.nan)
        return output if self.training else {name: value.detach() for name, value in output.items()}
