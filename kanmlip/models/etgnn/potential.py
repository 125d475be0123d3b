"""ETGNN as a potential: from a graph to named tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ase.data import chemical_symbols
from torch import Tensor

from kanmlip.data.graph import Graph
from kanmlip.errors import DataError
from kanmlip.models.etgnn.geometry import Geometry, measure, within
from kanmlip.models.etgnn.network import ETGNNNetwork
from kanmlip.models.potential import Potential


class TensorPotential(Potential):
    """Tensors of a network. Geometry, angles and basis functions are float64 whatever the network's precision.

    Args:
        network: The network.
        atomic_numbers: Species in the order of its embedding.
        triplet_range: r_t in Å.
    """

    species_index: Tensor
    upstream: ETGNNNetwork

    def __init__(self, network: ETGNNNetwork, atomic_numbers: Sequence[int], triplet_range: float) -> None:
        super().__init__(network)
        self.triplet_range = triplet_range
        lookup = torch.full((len(chemical_symbols),), -1)
        lookup[list(atomic_numbers)] = torch.arange(len(atomic_numbers))
        self.register_buffer("species_index", lookup, persistent=False)

    def forward(self, graph: Graph, compute_stress: bool = False) -> dict[str, Tensor]:
        """Evaluate a batch.

        Args:
            graph: A batch with this model's edges and triplets (``ModelConfig.graphs``).
            compute_stress: Without effect.

        Returns:
            Label → [N, 3, …] for one per atom, [S, 3, …] for one per structure; float64, differentiable in training mode.

        Raises:
            DataError: If the batch has no triplets, or a species that the model was built without.
        """
        with torch.set_grad_enabled(self.training and torch.is_grad_enabled()):
            tensors: dict[str, Tensor] = self.upstream(self.geometry(graph), self.species(graph))
        return tensors

    def run_upstream(self, graph: Graph) -> None:
        """See :meth:`Potential.run_upstream`."""
        with torch.no_grad():
            self.upstream(self.geometry(graph), self.species(graph))

    def geometry(self, graph: Graph) -> Geometry:
        """Distances and directions of a batch.

        Raises:
            DataError: If it comes without the triplets that its edges form; tensors would be wrong without a word.
        """
        geometry = measure(graph)
        if self.upstream.triplet_embedding is not None and graph.triplets.shape[1] == 0:
            short = within(geometry.distance.detach(), self.triplet_range)
            ends, starts = (torch.bincount(atom[short], minlength=geometry.num_atoms) for atom in (geometry.target, geometry.source))
            # Of two edges that start where one ends, one at most leads back.
            if bool(((ends >= 1) & (starts >= 2)).any()):
                raise DataError(
                    "a batch for model=etgnn has edges but no triplets; build it with ModelConfig.graphs or ModelConfig.collate"
                )
        return geometry

    def species(self, graph: Graph) -> Tensor:
        """Index of each atom's species in the network, [N].

        Raises:
            DataError: If the model was built without one of them.
        """
        species = self.species_index[graph.atomic_numbers]
        if bool((species < 0).any()):
            unknown = sorted(set(graph.atomic_numbers[species < 0].tolist()))
            known = torch.nonzero(self.species_index >= 0).flatten().tolist()
            raise DataError(f"a structure has species Z={unknown}, but the model was built for Z={known}; train it on them, too")
        return species
