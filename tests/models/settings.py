"""Small settings of every model that learns energies, found from conf/model: a new YAML file is picked up by itself."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from ase import Atoms
from omegaconf import OmegaConf

from kanmlip.data.graph import Graph
from kanmlip.data.statistics import DataStats, compute_statistics
from kanmlip.models.base import ModelConfig
from kanmlip.models.potential import Potential
from kanmlip.schema import locate

CONF = Path(__file__).parents[2] / "conf"


@cache
def energy_models() -> dict[str, ModelConfig]:
    """Every model of conf/model that predicts energies, in the size of budget=smoke."""
    found = {}
    for path in sorted((CONF / "model").glob("*.yaml")):
        config = OmegaConf.create({"model": OmegaConf.load(path), "budget": {"size": "smoke"}})
        fields = OmegaConf.to_container(config, resolve=True)["model"]
        target = fields.pop("_target_")
        fields.pop("sizes", None)
        model = locate(target, "model")(**fields)
        if "energy" in model.predicts:
            found[model.name] = model
    return found


def bases() -> list[str]:
    """Name of every basis of conf/basis."""
    return sorted(path.stem for path in (CONF / "basis").glob("*.yaml"))


def build(model: ModelConfig, frames: list[Atoms], dtype: torch.dtype = torch.float32, seed: int = 7) -> tuple[Potential, Graph, DataStats]:
    """A potential with statistics from ``frames``, and those frames as one batch."""
    graph = model.collate(frames)
    stats = compute_statistics([model.collate([frame]) for frame in frames], model.cutoff)
    return model.build(stats, dtype, seed), graph, stats
