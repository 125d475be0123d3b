"""ETGNN (Zhong et al., J. Phys. Chem. Lett. 14, 6339 (2023)): so far only what it predicts, for checks of a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NoReturn

from kanmlip.errors import ConfigError
from kanmlip.models.base import ModelConfig

if TYPE_CHECKING:
    import torch
    from torch import nn

    from kanmlip.data.statistics import DataStats
    from kanmlip.placement.config import PlacementConfig


class ETGNN(ModelConfig):
    """A model of tensors per atom. It cannot be built yet; every dataset of energies is refused before that."""

    targets: ClassVar = {"output": ()}
    placements: ClassVar = {"none": (), "output": ("output",), "output_literal": ("output",)}
    requires: ClassVar = {}
    predicts: ClassVar = frozenset({"born_effective_charges"})

    def build(self, stats: DataStats, dtype: torch.dtype, seed: int) -> NoReturn:
        """Refuse."""
        raise ConfigError("model=etgnn is not implemented yet; choose from: allegro, mace, nequip")

    def swap(self, module: nn.Module, group: str, placement: PlacementConfig) -> NoReturn:
        """Refuse."""
        raise ConfigError("model=etgnn is not implemented yet; choose from: allegro, mace, nequip")
