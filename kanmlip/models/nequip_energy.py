"""What Allegro and NequIP share: the nequip framework's process-wide state, its input dictionary and its energies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from kanmlip.data.graph import Graph
from kanmlip.data.statistics import DataStats
from kanmlip.models.potential import EnergyPotential


@contextmanager
def contained_global_state() -> Iterator[None]:
    """Let nequip set its process-wide state, and put back what others rely on.

    ``set_global_state`` is mandatory before a model is built. It also seeds every generator, makes float64 the default
    dtype and changes e3nn's code generation, after which MACE models can no longer be copied: those three are undone.
    """
    import e3nn
    from lightning.pytorch.utilities.seed import isolate_rng
    from nequip.utils.global_state import set_global_state

    dtype = torch.get_default_dtype()
    with isolate_rng():
        set_global_state()
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
            e3nn.set_optimization_defaults(jit_script_fx=False)


def build_upstream(
    builder: Callable[..., nn.Module], stats: DataStats, cutoff: float, dtype: torch.dtype, seed: int, **settings: Any
) -> nn.Module:
    """Call one of nequip's model builders with the statistics of the training set.

    Args:
        builder: ``allegro.model.AllegroModel`` or ``nequip.model.NequIPGNNModel``.
        stats: Fixes type names, E0, the energy scale (force RMS) and the edge normalisation.
        cutoff: Å.
        dtype: Precision of the network.
        seed: Seed of the initial weights.
        **settings: The builder's own arguments.
    """
    symbol = {z: chemical_symbols[z] for z in stats.atomic_numbers}
    with contained_global_state():
        return builder(
            seed=seed,
            model_dtype=str(dtype).removeprefix("torch."),
            type_names=list(symbol.values()),
            r_max=cutoff,
            avg_num_neighbors=stats.avg_num_neighbors,
            per_type_energy_scales=dict.fromkeys(symbol.values(), stats.force_rms),
            per_type_energy_shifts={symbol[z]: stats.reference_energies[z] for z in symbol},
            **settings,
        )


class NequIPPotential(EnergyPotential):
    """Energies of a ``nequip.nn.GraphModel``; its own force module is passed over in favour of ``EnergyPotential.forward``."""

    type_of_species: Tensor

    def __init__(self, upstream: nn.Module, atomic_numbers: Sequence[int]) -> None:
        super().__init__(upstream)
        lookup = torch.full((len(chemical_symbols),), -1)
        lookup[list(atomic_numbers)] = torch.arange(len(atomic_numbers))
        self.register_buffer("type_of_species", lookup, persistent=False)

    def inputs(self, graph: Graph, positions: Tensor, cell: Tensor) -> dict[str, Tensor]:
        """The batch in nequip's ``AtomicDataDict`` form, whose edge convention is ours."""
        return {
            "pos": positions,
            "cell": cell,
            "pbc": graph.pbc,
            "edge_index": graph.edge_index,
            "edge_cell_shift": graph.edge_cell_shift.to(cell.dtype),
            "atom_types": self.type_of_species[graph.atomic_numbers],
            "batch": graph.batch,
            "num_atoms": graph.num_atoms,
        }

    def energy(self, graph: Graph, positions: Tensor, cell: Tensor) -> Tensor:
        """See :meth:`EnergyPotential.energy`; calls the energy model under nequip's ``ForceStressOutput``."""
        energy_model = self.upstream.get_submodule("model.func")
        total: Tensor = energy_model(self.inputs(graph, positions, cell))["total_energy"]
        return total.view(-1)
