"""MACE (Batatia et al., NeurIPS 2022) from mace-torch, and where its readouts are."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from kanmlip.errors import ConfigError
from kanmlip.models.base import ModelConfig

if TYPE_CHECKING:
    import torch
    from torch import nn

    from kanmlip.data.statistics import DataStats
    from kanmlip.models.potential import Potential
    from kanmlip.placement.config import PlacementConfig
    from kanmlip.placement.head import Swap


class MACE(ModelConfig):
    """Settings of ``mace.modules.ScaleShiftMACE``.

    The first interaction has no residual connection, so that an isolated atom has exactly its reference energy.

    Attributes:
        max_ell: Highest degree of the spherical harmonics.
        hidden_irreps: Node features between layers, e.g. ``32x0e + 32x1o``.
        num_interactions: Layers.
        correlation: Body order less one of each layer's product basis.
        radial_mlp: Hidden widths of the radial network.
        readout_width: Hidden width of the last readout (upstream's ``MLP_irreps``), and d of the authors' KAN readout.
        num_bessels: Radial basis functions.
        polynomial_cutoff_p: Exponent of the radial envelope.
    """

    targets: ClassVar = {"output": ("readouts.*",)}
    placements: ClassVar = {"none": (), "output": ("output",)}
    requires: ClassVar = {"mace": "mace-torch==0.3.16"}

    max_ell: int = Field(ge=0)
    hidden_irreps: str
    num_interactions: int = Field(ge=1)
    correlation: int = Field(ge=1)
    radial_mlp: tuple[int, ...]
    readout_width: int = Field(ge=4)
    num_bessels: int = Field(ge=1)
    polynomial_cutoff_p: int = Field(ge=2)

    def build(self, stats: DataStats, dtype: torch.dtype, seed: int) -> Potential:
        """See :meth:`ModelConfig.build`."""
        self.require_upstream()
        modules = import_mace_modules()
        import numpy as np
        import torch
        from e3nn import o3

        from kanmlip.models.mace_energy import MACEPotential, default_dtype

        try:
            hidden_irreps = o3.Irreps(self.hidden_irreps)
        except ValueError as error:
            raise ConfigError(
                f"model.hidden_irreps={self.hidden_irreps} is not a list of irreps such as '32x0e + 32x1o': {error}"
            ) from error
        with torch.random.fork_rng(), default_dtype(dtype):
            torch.manual_seed(seed)
            upstream = modules.ScaleShiftMACE(
                r_max=self.cutoff,
                num_bessel=self.num_bessels,
                num_polynomial_cutoff=self.polynomial_cutoff_p,
                max_ell=self.max_ell,
                interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
                interaction_cls_first=modules.interaction_classes["RealAgnosticInteractionBlock"],
                num_interactions=self.num_interactions,
                num_elements=len(stats.atomic_numbers),
                hidden_irreps=hidden_irreps,
                MLP_irreps=o3.Irreps(f"{self.readout_width}x0e"),
                atomic_energies=np.array([stats.reference_energies[z] for z in stats.atomic_numbers]),
                avg_num_neighbors=stats.avg_num_neighbors,
                atomic_numbers=list(stats.atomic_numbers),
                correlation=self.correlation,
                gate=torch.nn.functional.silu,
                radial_MLP=list(self.radial_mlp),
                atomic_inter_scale=stats.force_rms,
                atomic_inter_shift=0.0,
                # Upstream's default gives a model fewer weights where cuequivariance is installed than where it is not.
                use_reduced_cg=False,
            )
        return MACEPotential(upstream, stats)

    def swap(self, module: nn.Module, group: str, placement: PlacementConfig) -> Swap:
        """``residual``: the authors' KAN(h) + Linear(x). ``replace``: a KAN of the readout's own widths (paper, Figure 4)."""
        from kanmlip.placement.mace_readout import swap_readout

        return swap_readout(module, self.readout_width, placement.mace_style)


def import_mace_modules() -> Any:
    """``mace.modules``, without the process-wide side effects of importing it.

    ``import mace`` makes ``torch.load`` unpickle anything in this process; e3nn 0.6 would compile code that cannot be copied.
    """
    variable = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(variable)
    import e3nn

    e3nn.set_optimization_defaults(jit_script_fx=False)
    from mace import modules

    if before is None:
        os.environ.pop(variable, None)
    else:
        os.environ[variable] = before
    return modules
