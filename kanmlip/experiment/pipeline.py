"""What a worker does: data, graphs, statistics, model, placement, training, evaluation, and the files of the run folder."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kanmlip.data.graph import Graph, batch_graphs
from kanmlip.data.root import cache_root, data_root
from kanmlip.data.statistics import DataStats, check_species, compute_statistics
from kanmlip.errors import DataError
from kanmlip.evaluation import evaluate
from kanmlip.evaluation.baselines import baseline_metrics
from kanmlip.experiment.atomic import read_json, write_json, write_npz
from kanmlip.experiment.companions import companions
from kanmlip.experiment.config import RunConfig
from kanmlip.experiment.devices import check_backend, check_threads, resolve_device
from kanmlip.experiment.environment import describe
from kanmlip.experiment.gpu_slots import Place, devices_folder, find_devices, name_of, place_on
from kanmlip.experiment.record import write_record
from kanmlip.experiment.status import now
from kanmlip.experiment.validation import load_run_config
from kanmlip.placement.place import place
from kanmlip.training import FitResult, fit, follow
from kanmlip.training.frame import Frame
from kanmlip.training.loggers import RunLogger, build_loggers
from kanmlip.training.ranks import Ranks

if TYPE_CHECKING:
    from kanmlip.data.base import Splits
    from kanmlip.models.potential import Potential
    from kanmlip.placement.report import PlacementReport

SPLITS = ("train", "val", "test")
CALIBRATION_FRAMES = 8  # enough atoms for the input scale of a head: 71 atoms a frame have some 2,000 edges


def run(run_dir: Path, began: float | None = None) -> None:
    """Carry out the run whose settings ``run_dir/config.yaml`` holds, resuming where its checkpoints say.

    Leaves placement.json, environment.json, history.csv, metrics.json, predictions.npz and the record.

    Args:
        run_dir: Run folder.
        began: When its process began, by ``time.perf_counter``; none for now. Waiting for a GPU is not counted (``max_minutes``).

    Raises:
        kanmlip.errors.KanmlipError: If the data cannot be used, a package is missing or training diverges.
    """
    began = time.perf_counter() if began is None else began
    config = load_run_config(run_dir)
    seed_everything(config.seed)
    device = resolve_device(config.trainer.device, config.trainer.devices)
    check_threads(config.trainer.threads, config.trainer.devices)
    check_backend(config, device)
    asked = time.perf_counter()
    with device_place(config, device, run_dir) as place:
        began += time.perf_counter() - asked
        if place.gpus:
            torch.cuda.set_device(place.gpus[0])
        _carry_out(run_dir, config, device, place, began)


def _carry_out(run_dir: Path, config: RunConfig, device: str, place: Place, began: float) -> None:
    dtype = getattr(torch, config.trainer.precision)
    splits = config.dataset.load(data_root())
    environment = write_environment(run_dir, config, splits, device, place)
    graphs = split_graphs(config, splits)
    stats = compute_statistics(graphs["train"], config.model.cutoff)
    for name in ("val", "test"):
        check_species(graphs[name], stats, name)
    potential, report = build(config, stats, graphs["train"], dtype)
    write_json(run_dir / "placement.json", report.to_dict())
    print(report, flush=True)
    loggers = build_loggers(config.logger, run_dir, run_dir.name, config.to_plain())
    fitted = train(run_dir, config, potential, graphs, stats, loggers, place.gpus, began)
    try:
        metrics, predictions = assess(config, potential, graphs, device, dtype)
        metrics |= costs(fitted, report)
        write_npz(run_dir / "predictions.npz", predictions)
        write_json(run_dir / "metrics.json", metrics)
        write_json(run_dir / "environment.json", {**environment, **_crowding(place, environment), "finished": now()})
        files = {"record": write_record(run_dir), **{name: run_dir / "checkpoints" / f"{name}.ckpt" for name in ("best", "last")}}
    except BaseException:
        for logger in loggers:
            logger.finalize("failed")
        raise
    for logger in loggers:
        logger.conclude(metrics, files)


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # upstream packages draw from the global state
    torch.manual_seed(seed)


def prepare_to_follow(run_dir: Path) -> Callable[[Ranks], None]:
    """What a process of a run besides its worker does: the same data and model, then its parts of the training.

    Returns:
        The training, to be called when the processes have met.

    Raises:
        kanmlip.errors.KanmlipError: As :func:`run`.
    """
    config = load_run_config(run_dir)
    seed_everything(config.seed)
    graphs = split_graphs(config, config.dataset.load(data_root()))
    stats = compute_statistics(graphs["train"], config.model.cutoff)
    potential, _ = build(config, stats, graphs["train"], getattr(torch, config.trainer.precision))
    return lambda ranks: follow(potential, graphs["train"], graphs["val"], config.trainer, config.seed, ranks)


def device_place(config: RunConfig, device: str, run_dir: Path) -> AbstractContextManager[Place]:
    """Where the run computes: on the CPU with whoever is there, on as many GPUs as processes where ``trainer.gpu_slots`` leaves room."""
    on_cpu, processes = device == "cpu", config.trainer.devices
    threads = config.trainer.threads or torch.get_num_threads()
    here = devices_folder(cache_root())
    return place_on(
        find_devices(device),
        name_of(run_dir),
        here,
        load=threads * processes if on_cpu else 1,
        limit=None if on_cpu else config.trainer.gpu_slots,
        fresh=read_json(run_dir / "environment.json") is None,
        count=1 if on_cpu else processes,
        elsewhere=here.parent,
    )


def _crowding(place: Place, before: Mapping[str, Any]) -> dict[str, Any]:
    """How crowded the device was, here and where an earlier attempt was made; null where that could not be seen."""
    facts = place.facts()
    counts = [count for count in (facts["runs_at_once"], before.get("runs_at_once")) if count is not None]
    return {"runs_at_once": max(counts, default=None), "shared": bool(before.get("shared")) or facts["shared"]}


def write_environment(run_dir: Path, config: RunConfig, splits: Splits, device: str, place: Place) -> dict[str, Any]:
    """Write ``environment.json`` before training; commits of earlier attempts are kept beside the present one."""
    before = read_json(run_dir / "environment.json") or {}
    environment = describe(device, config.trainer.threads, splits.sha256)
    earlier = [commit for commit in (*before.get("earlier_commits", ()), before.get("commit")) if commit]
    environment |= {
        # The most of all attempts: a part of the time in several processes is not the time of one.
        "devices": max(config.trainer.devices, before.get("devices") or 1),
        "started": before.get("started") or now(),
        "finished": None,
        **_crowding(place, before),
        "earlier_commits": sorted(set(earlier) - {environment["commit"]}),
        "data": {
            "label": splits.label,
            "stand_in": splits.stand_in,
            "subset": splits.subset,
            **{f"n_{name}": len(getattr(splits, name)) for name in SPLITS},
        },
    }
    write_json(run_dir / "environment.json", environment)
    print(f"data: {splits.label}; {environment['hardware']}, device {device}", flush=True)
    return environment


def split_graphs(config: RunConfig, splits: Splits) -> dict[str, list[Graph]]:
    """One graph a frame, as the model wants it, float64 on the CPU.

    Raises:
        DataError: If there is nothing to train on or to validate with.
    """
    for name in ("train", "val"):
        if not getattr(splits, name):
            raise DataError(f"dataset={config.dataset.name} gives no {name} frames; set dataset.n_{name} or dataset.{name}")
    return {name: config.model.graphs(getattr(splits, name), cache_root(), splits.indices.get(name)) for name in SPLITS}


def build(config: RunConfig, stats: DataStats, train_graphs: Sequence[Graph], dtype: torch.dtype) -> tuple[Potential, PlacementReport]:
    """Construct the upstream model and swap the MLPs that the placement names."""
    potential = config.model.build(stats, dtype, config.seed)
    # Independent of how many random numbers the upstream model drew, so that heads of equal shape start equal.
    torch.manual_seed(config.seed)
    calibration = batch_graphs(list(train_graphs[:CALIBRATION_FRAMES]))
    return potential, place(potential, config.model, config.placement, config.basis, calibration)


def train(
    run_dir: Path,
    config: RunConfig,
    potential: Potential,
    graphs: Mapping[str, list[Graph]],
    stats: DataStats,
    loggers: Sequence[RunLogger],
    gpus: Sequence[int] = (),
    began: float | None = None,
) -> FitResult:
    """Fit, on these GPUs or on the CPU, with what is needed to build the potential again stored beside its weights."""
    metadata = {"run_id": run_dir.name, "config": config.to_plain(), "stats": asdict(stats)}
    frame = Frame.of(began, graphs, config.trainer.devices)
    with companions(run_dir, config.trainer.devices, gpus) as ranks:
        return fit(potential, graphs["train"], graphs["val"], config.trainer, run_dir, loggers, config.seed, metadata, ranks, frame)


def assess(
    config: RunConfig, potential: Potential, graphs: Mapping[str, list[Graph]], device: str, dtype: torch.dtype
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Metrics and predictions of every split that has frames, keys prefixed by the split's name; and what baselines score there."""
    metrics = baseline_metrics(graphs, config.model.predicts)
    predictions: dict[str, np.ndarray] = {}
    for name in SPLITS:
        if graphs[name]:
            evaluation = evaluate(potential, graphs[name], config.trainer.eval_limits, device, dtype)
            metrics |= {f"{name}/{key}": value for key, value in evaluation.metrics.items()}
            predictions |= {f"{name}/{key}": value for key, value in evaluation.predictions.items()}
    return metrics, predictions


def costs(fitted: FitResult, report: PlacementReport) -> dict[str, float]:
    """What the run took."""
    metrics: dict[str, float] = {
        "time/train_s": fitted.train_s,
        "time/per_epoch_s": fitted.per_epoch_s,
        "time/epochs": fitted.epochs_run,
        "time/updates": fitted.updates,
        "time/best_epoch": fitted.best_epoch,
        "params/total": report.parameters_total,
        "params/head": report.parameters_head,
    }
    if fitted.peak_allocated_MB is not None:
        metrics["memory/peak_allocated_MB"] = fitted.peak_allocated_MB
    return metrics
