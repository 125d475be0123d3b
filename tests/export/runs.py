"""Run folders without the training: what a finished run leaves for an export, with weights that no seed gives."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
import yaml
from ase import Atoms

from kanmlip.data.statistics import compute_statistics
from kanmlip.experiment.config import RunConfig
from kanmlip.experiment.configure import compose_run
from kanmlip.experiment.pipeline import build
from kanmlip.experiment.status import Status, write_status
from kanmlip.models.potential import Potential
from kanmlip.training.checkpoints import CheckpointStore

# Every model × {none, output, all} that it has, as the bar of issue 5 asks.
CASES = ("allegro-none", "allegro-output", "allegro-all", "nequip-none", "nequip-output", "mace-none", "mace-output")
# Where both precisions of everything would take too long: single precision of the models with most KANs.
PRECISIONS = (*((case, "float64") for case in CASES), ("allegro-all", "float32"), ("nequip-output", "float32"), ("mace-output", "float32"))
TOLERANCE = {"float64": 1e-9, "float32": 1e-5}


def make_run(
    folder: Path, frames: list[Atoms], case: str, *settings: str, basis: str = "gaussian", precision: str = "float64", dataset: str = "toy"
) -> tuple[Path, Potential, RunConfig]:
    """A run folder and the model in memory that its weights were taken from.

    Args:
        folder: Where ``<case>`` goes.
        frames: Fix the statistics and the heads' scales.
        case: ``<model>-<placement>``.
        *settings: Further arguments of ``kanmlip-train``.
        basis: Of the KANs.
        precision: Of the network.
        dataset: Its name only; what the model learns must be among its labels.
    """
    model, placement = case.split("-")
    arguments = [
        f"model={model}",
        f"placement={placement}",
        f"basis={basis}",
        f"trainer.precision={precision}",
        f"dataset={dataset}",
        "budget=smoke",
    ]
    config = compose_run([*arguments, *settings])
    graphs = config.model.graphs(frames)
    stats = compute_statistics(graphs, config.model.cutoff)
    potential, _ = build(config, stats, graphs, getattr(torch, precision))
    shake(potential)
    run_dir = folder / f"{case}-{basis}-{precision}"
    metadata = {"run_id": run_dir.name, "config": config.to_plain(), "stats": asdict(stats)}
    CheckpointStore(run_dir / "checkpoints").save_best({"metadata": metadata, "epoch": 1, "model": potential.state_dict()})
    (run_dir / "config.yaml").write_text(yaml.safe_dump(config.to_plain()))
    write_status(run_dir, Status("done", run_dir.name))
    return run_dir, potential.eval(), config


@torch.no_grad()
def shake(potential: Potential) -> None:
    """Change every weight a little, as training does: the seed alone must not give the same model.

    By as much as leaves forces those of a solid; heads changed by more amplify what float32 rounds.
    """
    torch.manual_seed(3)
    for parameter in potential.parameters():
        parameter.add_(0.01 * torch.randn_like(parameter))
