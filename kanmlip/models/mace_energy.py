"""Energies of a MACE model from a :class:`~kanmlip.data.graph.Graph`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from kanmlip.data.graph import Graph
from kanmlip.data.statistics import DataStats
from kanmlip.models.potential import EnergyPotential


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Build modules under ``dtype``; MACE takes its precision from torch's default."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class MACEPotential(EnergyPotential):
    """Energies of a ``ScaleShiftMACE``.

    Interatomic vectors, and the sum of reference energies, are float64: -10,000 eV of carbon leave float32 no room for meV.
    """

    one_hot: Tensor
    reference_energies: Tensor

    def __init__(self, upstream: nn.Module, stats: DataStats) -> None:
        super().__init__(upstream)
        self.network_dtype = next(upstream.parameters()).dtype
        one_hot = torch.zeros(len(chemical_symbols), len(stats.atomic_numbers), dtype=self.network_dtype)
        one_hot[list(stats.atomic_numbers), torch.arange(len(stats.atomic_numbers))] = 1
        energies = torch.full((len(chemical_symbols),), torch.nan, dtype=torch.float64)
        energies[list(stats.atomic_numbers)] = torch.tensor(
            [stats.reference_energies[z] for z in stats.atomic_numbers], dtype=torch.float64
        )
        self.register_buffer("one_hot", one_hot, persistent=False)
        self.register_buffer("reference_energies", energies, persistent=False)

    def inputs(self, graph: Graph, positions: Tensor, cell: Tensor) -> dict[str, Tensor]:
        """The batch in MACE's dictionary form: the sender is our centre, the receiver its neighbour.

        MACE takes a vector as ``positions[receiver] - positions[sender] + shifts``; small positions and exact float64
        vectors come from moving each vector wholly into ``shifts``.
        """
        sender, receiver = graph.edge_index
        # index_select rather than [...]: its gradient is an index_add, which is several times faster than index_put.
        cell_of_edge = cell.index_select(0, graph.batch.index_select(0, sender))
        shifts = torch.bmm(graph.edge_cell_shift.to(cell.dtype).unsqueeze(1), cell_of_edge).squeeze(1)
        vectors = (positions.index_select(0, receiver) - positions.index_select(0, sender) + shifts).to(self.network_dtype)
        return {
            "positions": torch.zeros_like(positions, dtype=self.network_dtype),
            "shifts": vectors,
            "unit_shifts": graph.edge_cell_shift.to(self.network_dtype),
            "cell": cell.reshape(-1, 3).to(self.network_dtype),
            "edge_index": graph.edge_index,
            "node_attrs": self.one_hot[graph.atomic_numbers],
            "batch": graph.batch,
            "ptr": torch.nn.functional.pad(graph.num_atoms.cumsum(0), (1, 0)),
            "head": torch.zeros_like(graph.num_atoms),
        }

    def energy(self, graph: Graph, positions: Tensor, cell: Tensor) -> Tensor:
        """See :meth:`EnergyPotential.energy`; the interaction energy is MACE's, the reference energies are added here in float64."""
        output = self.upstream(self.inputs(graph, positions, cell), compute_force=False)
        interaction: Tensor = output["interaction_energy"].to(positions.dtype)
        reference = self.reference_energies[graph.atomic_numbers].to(positions.dtype)
        return interaction.index_add(0, graph.batch, reference)
