"""Print how much a training step costs: KANs against MLPs of equal widths, and our trainer against the upstream ones.

Toy set (71-atom Ag), float32, one thread, contenders interleaved in one process; every figure is a ratio within a round.

    python scripts/step_ratios.py [--size gpu] [--rounds 11] [--output results/benchmarks/step_ratios.json]

The default model size, 64 scalar and 16 tensor features in two layers with l_max = 2, is the one that naive KAN heads were measured at.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

from kanmlip.benchmark.interleave import Ratio, interleave, ratios
from kanmlip.benchmark.training_step import Setting, our_epoch
from kanmlip.benchmark.upstream_loops import mace_run_train, nequip_train
from kanmlip.data.neighbours import build_graphs
from kanmlip.data.root import cache_root, data_root
from kanmlip.data.statistics import compute_statistics
from kanmlip.experiment.configure import compose_run
from kanmlip.experiment.environment import describe
from kanmlip.placement.config import PlacementConfig
from kanmlip.training.loop import open_fabric

BASES = ("gaussian", "bspline")


def setting(model: str, size: str, frames: int, basis: str = "gaussian") -> tuple[Setting, Any]:
    """A model in a size on a few toy frames, and the basis."""
    config = compose_run([f"model={model}", "dataset=toy", "budget=small", f"budget.size={size}", f"basis={basis}", "trainer.device=cpu"])
    splits = config.dataset.load(data_root())
    graphs = build_graphs(splits.train[:frames], config.model.cutoff, cache_root())
    return Setting(config.model, compute_statistics(graphs, config.model.cutoff), graphs, config.trainer), config.basis


def kan_against_mlp(model: str, size: str, rounds: int, frames: int) -> dict[str, Ratio]:
    """Every placement × basis of a model over its MLP."""
    shared, _ = setting(model, size, frames)
    fabric = open_fabric(shared.trainer)
    contenders = {}
    for placement in shared.model.placements:
        for basis in BASES if placement != "none" else BASES[:1]:
            _, recipe = setting(model, size, frames, basis)
            name = "MLP" if placement == "none" else f"{placement} {basis}"
            contenders[name] = our_epoch(shared, shared.build(PlacementConfig(name=placement), recipe), fabric)
    return ratios(interleave(contenders, rounds), "MLP")


def ours_against_upstream(model: str, size: str, rounds: int, frames: int) -> dict[str, Ratio]:
    """Our trainer on placement=none over the upstream loop on the same weights and batches."""
    shared, recipe = setting(model, size, frames)
    fabric = open_fabric(shared.trainer)
    potential = shared.build(PlacementConfig(name="none"), recipe)
    loop, name = (mace_run_train, "mace_run_train") if model == "mace" else (nequip_train, "nequip-train")
    settings = {"learning_rate": 1e-4, "ema_decay": 0.99, "clip": 10.0}
    theirs = loop(potential, shared.batches(fabric.device), **settings)  # type: ignore[arg-type]
    return ratios(interleave({name: theirs.epoch, "kanmlip": our_epoch(shared, potential, fabric)}, rounds), name)


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="gpu", help="column of the sizes in conf/model (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--frames", type=int, default=4, help="structures in an epoch, two a batch")
    parser.add_argument("--models", default="allegro,nequip,mace")
    parser.add_argument("--part", choices=("all", "kan", "trainer"), default="all")
    parser.add_argument("--output", type=Path, default=None)
    options = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {"size": options.size, "rounds": options.rounds, "environment": describe("cpu", 1, "toy")}
    for part, measure in (("kan", kan_against_mlp), ("trainer", ours_against_upstream)):
        if options.part not in ("all", part):
            continue
        for model in options.models.split(","):
            measured = measure(model, options.size, options.rounds, options.frames)
            print(f"\n{model}, size {options.size}: " + ("KAN over MLP" if part == "kan" else "our trainer over the upstream loop"))
            for name, ratio in measured.items():
                print(f"  {name:<24} {ratio}   {1e3 * ratio.seconds / options.frames:.1f} ms a structure")
            result[f"{part}/{model}"] = {name: vars(ratio) for name, ratio in measured.items()}
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
