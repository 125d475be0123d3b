"""A model of tensors that trains in moments, for whole runs."""

from __future__ import annotations

from typing import ClassVar, NoReturn

import torch
from torch import nn

from kanmlip.data.statistics import DataStats
from kanmlip.models.base import ModelConfig
from kanmlip.models.potential import Potential
from kanmlip.placement.config import PlacementConfig
from tests.tensor_fakes import SpeciesTensors


class FakeTensorModel(ModelConfig):
    """A tensor a species; there is nothing to swap."""

    targets: ClassVar = {}
    placements: ClassVar = {"none": ()}
    requires: ClassVar = {}
    predicts: ClassVar = frozenset({"born_effective_charges", "dielectric_tensor"})

    def build(self, stats: DataStats, dtype: torch.dtype, seed: int) -> Potential:
        return SpeciesTensors(dtype, seed)

    def swap(self, module: nn.Module, group: str, placement: PlacementConfig) -> NoReturn:
        raise NotImplementedError
