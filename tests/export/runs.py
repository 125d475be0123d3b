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
from kanmlip.export.loading import LoadedRun
from kanmlip.export.probe import probe_graph
from kanmlip.kan import KAN
from kanmlip.models.potential import Potential
from kanmlip.training.checkpoints import CheckpointStore

# Every model × {none, output, all} that it has, as the bar of issue 5 asks.
CASES = ("allegro-none", "allegro-output", "allegro-all", "nequip-none", "nequip-output", "mace-none", "mace-output")
TOLERANCE = {"float64": 1e-9, "float32": 1e-5}
PRECISIONS = tuple((case, precision) for precision in TOLERANCE for case in CASES)
BASES = ("gaussian", "bspline", "fourier", "chebyshev", "relu", "truncated_power", "adaptive_gaussian")
# Models with as many KANs as there are bases, for :func:`patchwork`.
WITH_SEVEN_KANS = {
    "allegro-all": ("model.num_layers=5",),
    "mace-output": ("model.num_interactions=7", "model.max_ell=1", "model.correlation=2", "model.hidden_irreps=4x0e + 4x1o"),
}


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


def patchwork(run: LoadedRun) -> dict[str, int]:
    """Give each KAN of a run another basis, in place: one file with all of them takes a route no longer than one with one.

    Returns:
        How many KANs have each basis.
    """
    kans = [(path, module) for path, module in run.potential.upstream.named_modules() if isinstance(module, KAN)]
    counts = dict.fromkeys(BASES, 0)
    for number, (path, kan) in enumerate(kans):
        seen: list[torch.Tensor] = []
        handle = kan.register_forward_pre_hook(lambda _, x, into=seen: into.append(x[0].detach()))
        run.potential.run_upstream(probe_graph(run))
        handle.remove()
        basis = BASES[number % len(BASES)]
        counts[basis] += 1
        new = KAN(kan.widths, compose_run(["model=nequip", "placement=output", f"basis={basis}", "dataset=toy"]).basis.build())
        new.to(run.dtype).imitate(seen[0], kan(seen[0]))
        new.set_backend(kan.layers[0].backend)
        run.potential.upstream.set_submodule(path, new.eval().requires_grad_(False))
    return counts
