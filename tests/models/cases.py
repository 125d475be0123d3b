"""Every model × placement × basis, as one list that the placement and physics tests share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from omegaconf import OmegaConf

from kanmlip.data.graph import Graph
from kanmlip.kan import Basis
from kanmlip.models.base import ModelConfig
from kanmlip.models.potential import Potential
from kanmlip.placement.config import HeadConfig, PlacementConfig
from kanmlip.placement.place import place, record_calls
from kanmlip.placement.report import PlacementReport
from kanmlip.schema import locate
from tests.models.settings import CONF, bases, build, energy_models


@dataclass(frozen=True)
class NamedBasis:
    """A basis as conf/basis describes it."""

    name: str
    backend: str = "auto"

    def build(self) -> Basis:
        fields: Any = OmegaConf.to_container(OmegaConf.load(Path(CONF) / "basis" / f"{self.name}.yaml"))
        target = locate(fields.pop("_target_"), "basis")
        fields.pop("name")
        fields.pop("backend")
        basis: Basis = target(**fields)
        return basis


@dataclass(frozen=True)
class Case:
    """One combination."""

    model: str
    placement: str
    basis: str
    mace_style: str = "residual"

    def __str__(self) -> str:
        parts = [self.model, self.placement]
        if self.placement != "none":
            parts.append(self.basis)
        if self.model == "mace" and self.placement != "none":
            parts.append(self.mace_style)
        return "-".join(parts)


@cache
def all_cases(with_none: bool = True) -> list[Case]:
    """All combinations that exist; ``none`` once a model, both styles of MACE."""
    cases = []
    for model in energy_models().values():
        for placement in model.placements:
            if placement == "none":
                cases += [Case(model.name, "none", bases()[0])] if with_none else []
                continue
            for style in ("residual", "replace") if model.name == "mace" else ("residual",):
                cases += [Case(model.name, placement, basis, style) for basis in bases()]
    return cases


def build_case(
    case: Case, frames: list[Atoms], dtype: torch.dtype = torch.float32, head: HeadConfig | None = None, seed: int = 11
) -> tuple[Potential, Graph, ModelConfig, PlacementReport]:
    """The potential of a case in evaluation mode, calibrated on ``frames``, with those frames as a batch."""
    model = energy_models()[case.model]
    potential, graph, _ = build(model, frames, dtype)
    torch.manual_seed(seed)
    settings = PlacementConfig(name=case.placement, mace_style=case.mace_style, head=head or HeadConfig())
    report = place(potential, model, settings, NamedBasis(case.basis), graph)
    return potential.eval(), graph, model, report


def check_heads_start_like_mlps(swapped: Potential, plain: Potential, report: PlacementReport, graph: Graph) -> None:
    """Each head of ``swapped`` has the mean and the variance that the module in its place has in ``plain``, output by output."""
    paths = [replaced.path for replaced in report.replaced]
    assert paths
    before = {path: output for path, _, output in record_calls(plain, paths, graph)}
    after = {path: output for path, _, output in record_calls(swapped, paths, graph)}
    for path in paths:
        mean, std = before[path].mean(0), before[path].std(0)
        assert ((after[path].mean(0) - mean).abs() <= 0.1 * (std + mean.abs())).all(), path
        torch.testing.assert_close(after[path].var(0), std.square(), rtol=0.1, atol=1e-9)
