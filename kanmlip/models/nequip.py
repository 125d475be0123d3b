"""NequIP (Batzner et al., Nat. Commun. 13, 2453 (2022)) from the nequip package, with an MLP readout to replace."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from kanmlip.models.base import ModelConfig

if TYPE_CHECKING:
    import torch
    from torch import nn

    from kanmlip.data.statistics import DataStats
    from kanmlip.models.potential import Potential
    from kanmlip.placement.config import PlacementConfig
    from kanmlip.placement.head import Swap


class NequIP(ModelConfig):
    """Settings of ``nequip.model.NequIPGNNModel``.

    Attributes:
        l_max: Highest degree of features and spherical harmonics.
        parity: Keep features of odd mirror parity.
        num_layers: Interaction layers.
        num_features: Multiplicity of each irrep.
        radial_mlp_depth: Hidden layers of the radial network.
        radial_mlp_width: Hidden width of the radial network.
        readout_depth: Hidden layers of the readout. Upstream's default is 0, a linear map, which leaves no MLP to replace.
        readout_width: Hidden width of the readout.
        num_bessels: Radial basis functions.
        polynomial_cutoff_p: Exponent of the radial envelope.
    """

    targets: ClassVar = {"output": ("model.func.per_atom_energy_readout.mlp_module",)}
    placements: ClassVar = {"none": (), "output": ("output",)}
    requires: ClassVar = {"nequip": "nequip"}

    l_max: int = Field(ge=0)
    parity: bool
    num_layers: int = Field(ge=1)
    num_features: int = Field(ge=1)
    radial_mlp_depth: int = Field(ge=1)
    radial_mlp_width: int = Field(ge=1)
    readout_depth: int = Field(ge=1)
    readout_width: int = Field(ge=1)
    num_bessels: int = Field(ge=1)
    polynomial_cutoff_p: int = Field(ge=2)

    def build(self, stats: DataStats, dtype: torch.dtype, seed: int) -> Potential:
        """See :meth:`ModelConfig.build`."""
        self.require_upstream()
        from nequip.model import NequIPGNNModel

        from kanmlip.models.nequip_energy import NequIPPotential, build_upstream

        upstream = build_upstream(
            NequIPGNNModel,
            stats,
            self.cutoff,
            dtype,
            seed,
            l_max=self.l_max,
            parity=self.parity,
            num_layers=self.num_layers,
            num_features=self.num_features,
            radial_mlp_depth=self.radial_mlp_depth,
            radial_mlp_width=self.radial_mlp_width,
            readout_mlp_hidden_layers_depth=self.readout_depth,
            readout_mlp_hidden_layers_width=self.readout_width,
            num_bessels=self.num_bessels,
            polynomial_cutoff_p=self.polynomial_cutoff_p,
        )
        return NequIPPotential(upstream, stats.atomic_numbers)

    def swap(self, module: nn.Module, group: str, placement: PlacementConfig) -> Swap:
        """The readout is a nequip ``ScalarMLPFunction``: a KAN of the same widths takes its place."""
        from kanmlip.placement.head import swap_scalar_mlp

        return swap_scalar_mlp(module)
