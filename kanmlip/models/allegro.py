"""Allegro (Musaelian et al., Nat. Commun. 14, 579 (2023)) from nequip-allegro, and where its MLPs are."""

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


class Allegro(ModelConfig):
    """Settings of ``allegro.model.AllegroModel``; every MLP has one hidden layer unless said otherwise.

    The environment embeddings are linear projections and stay as they are, as in the paper.

    Attributes:
        l_max: Highest degree of the spherical harmonics.
        parity: Keep features of odd mirror parity.
        num_layers: Allegro layers.
        num_scalar_features: Width of the scalar track.
        num_tensor_features: Channels of the tensor track.
        mlp_width: Hidden width of the two-body and latent MLPs.
        mlp_depth: Hidden layers of the two-body and latent MLPs.
        readout_width: Hidden width of the output block.
        readout_depth: Hidden layers of the output block.
        num_bessels: Radial basis functions.
        polynomial_cutoff_p: Exponent of the radial envelope.
    """

    targets: ClassVar = {
        "two_body": ("model.func.scalar_embed_mlp.mlp_module",),
        "latent": ("model.func.allegro.latents.*",),
        "output": ("model.func.edge_readout.mlp_module",),
    }
    placements: ClassVar = {
        "none": (),
        "output": ("output",),
        "besides_output": ("two_body", "latent"),
        "all": ("two_body", "latent", "output"),
    }
    requires: ClassVar = {"nequip": "nequip", "allegro": "nequip-allegro"}

    l_max: int = Field(ge=0)
    parity: bool
    num_layers: int = Field(ge=1)
    num_scalar_features: int = Field(ge=1)
    num_tensor_features: int = Field(ge=1)
    mlp_width: int = Field(ge=1)
    mlp_depth: int = Field(ge=1)
    readout_width: int = Field(ge=1)
    readout_depth: int = Field(ge=1)
    num_bessels: int = Field(ge=1)
    polynomial_cutoff_p: int = Field(ge=2)

    def build(self, stats: DataStats, dtype: torch.dtype, seed: int) -> Potential:
        """See :meth:`ModelConfig.build`; forward-normalised weights, bias-free MLPs (upstream's defaults)."""
        self.require_upstream()
        from allegro.model import AllegroModel

        from kanmlip.models.nequip_energy import NequIPPotential, build_upstream

        upstream = build_upstream(
            AllegroModel,
            stats,
            self.cutoff,
            dtype,
            seed,
            l_max=self.l_max,
            parity=self.parity,
            radial_chemical_embed={
                "_target_": "allegro.nn.TwoBodyBesselScalarEmbed",
                "num_bessels": self.num_bessels,
                "polynomial_cutoff_p": self.polynomial_cutoff_p,
            },
            scalar_embed_mlp_hidden_layers_depth=self.mlp_depth,
            scalar_embed_mlp_hidden_layers_width=self.mlp_width,
            num_layers=self.num_layers,
            num_scalar_features=self.num_scalar_features,
            num_tensor_features=self.num_tensor_features,
            allegro_mlp_hidden_layers_depth=self.mlp_depth,
            allegro_mlp_hidden_layers_width=self.mlp_width,
            readout_mlp_hidden_layers_depth=self.readout_depth,
            readout_mlp_hidden_layers_width=self.readout_width,
        )
        return NequIPPotential(upstream, stats.atomic_numbers)

    def swap(self, module: nn.Module, group: str, placement: PlacementConfig) -> Swap:
        """Each target is a nequip ``ScalarMLPFunction``: a KAN of the same widths takes its place."""
        from kanmlip.placement.head import swap_scalar_mlp

        return swap_scalar_mlp(module)
