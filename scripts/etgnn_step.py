"""CPU seconds a structure of ETGNN: building graphs, and a training step with MLPs and with KANs, in turns.

Needs the SiO2 set under $KANMLIP_DATA. Run on a quiet machine: python scripts/etgnn_step.py [paper|gpu|small] [structures in a batch]
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.io import read
from omegaconf import OmegaConf

from kanmlip.data.graph import Graph, batch_graphs
from kanmlip.data.root import data_root
from kanmlip.data.statistics import DataStats
from kanmlip.experiment.basis import basis_config
from kanmlip.models.etgnn import ETGNN
from kanmlip.placement.config import PlacementConfig
from kanmlip.placement.place import place

CONF = Path(__file__).parents[1] / "conf"
CONTENDERS = (("none", "gaussian"), ("output", "gaussian"), ("output", "bspline"), ("output_literal", "gaussian"))
ROUNDS = 4
LABEL = "born_effective_charges"


def settings(size: str) -> ETGNN:
    """The model of conf/model/etgnn.yaml in a size."""
    config = OmegaConf.create({"model": OmegaConf.load(CONF / "model" / "etgnn.yaml"), "budget": {"size": size}})
    fields: dict[str, Any] = OmegaConf.to_container(config, resolve=True)["model"]
    return ETGNN(**{name: value for name, value in fields.items() if name not in ("_target_", "sizes")})


def contender(model: ETGNN, graphs: list[Graph], placement: str, basis: str, batch: int) -> Callable[[], float]:
    """A function that trains once on all graphs and returns CPU seconds a structure."""
    fields: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(CONF / "basis" / f"{basis}.yaml"))
    species = tuple(sorted({int(z) for graph in graphs for z in graph.atomic_numbers}))
    potential = model.build(DataStats(species, {}, 1.0, 1.0, model.cutoff), torch.float32, seed=0)
    recipe = basis_config(fields.pop("_target_"), fields.pop("name"), fields)
    place(potential, model, PlacementConfig(name=placement), recipe, batch_graphs(graphs[:8]))
    optimizer = torch.optim.AdamW(potential.train().parameters(), lr=1e-4)

    def epoch() -> float:
        start = time.process_time()
        for first in range(0, len(graphs), batch):
            graph = batch_graphs(graphs[first : first + batch])
            optimizer.zero_grad(set_to_none=True)
            (potential(graph)[LABEL] - graph.labels[LABEL]).square().mean().backward()
            optimizer.step()
        return (time.process_time() - start) / len(graphs)

    return epoch


def main() -> None:
    """Print a line for graphs and one for each contender."""
    size = sys.argv[1] if len(sys.argv) > 1 else "paper"
    batch = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    torch.set_num_threads(1)
    model = settings(size)
    frames: list[Atoms] = read(data_root() / "sio2_bec" / "all_3992.extxyz.xz", index="::66")[:60]
    start = time.process_time()
    graphs = model.graphs(frames)
    triplets = sum(graph.triplets.shape[1] for graph in graphs) / len(graphs)
    print(f"graphs: {1e3 * (time.process_time() - start) / len(graphs):.2f} ms a structure, {triplets:.0f} triplets")
    epochs = {names: contender(model, graphs, *names, batch) for names in CONTENDERS}
    seconds: dict[tuple[str, str], list[float]] = {names: [] for names in epochs}
    for number in range(ROUNDS + 1):
        for names, epoch in epochs.items():
            taken = epoch()
            if number:  # the first round compiles kernels and fills caches
                seconds[names].append(taken)
    for (placement, basis), taken in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(taken, seconds["none", "gaussian"], strict=True))
        name = basis if placement != "none" else "MLP"
        print(f"{size}, {placement}, {name}: {statistics.median(taken):.4f} CPU-s a structure, {ratio:.2f} × MLP")


if __name__ == "__main__":
    main()
