"""The training loop, the same for every model: on Lightning Fabric, resumable after every epoch to the last bit.

Of several processes the first runs :func:`fit`, the others :func:`follow`; both go through the same epochs.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kanmlip.data.graph import Graph
from kanmlip.errors import ConfigError, DivergenceError
from kanmlip.evaluation.assessment import evaluate
from kanmlip.malloc import keep_freed_memory
from kanmlip.training.checkpoints import CheckpointStore
from kanmlip.training.config import TrainerConfig
from kanmlip.training.frame import NO_FRAME, Frame
from kanmlip.training.history import History, Row
from kanmlip.training.loggers import RunLogger
from kanmlip.training.loss import check_labels
from kanmlip.training.order import check_limits, training_batches
from kanmlip.training.preflight import advising, preflight
from kanmlip.training.progress import Progress
from kanmlip.training.ranks import ALONE, Ranks
from kanmlip.training.result import FitResult
from kanmlip.training.session import Session
from kanmlip.training.step import compute_gradients, training_step

if TYPE_CHECKING:
    from lightning.fabric import Fabric


def fit(
    potential: nn.Module,
    train: Sequence[Graph],
    val: Sequence[Graph],
    config: TrainerConfig,
    run_dir: Path,
    loggers: Sequence[RunLogger],
    seed: int,
    metadata: Mapping[str, Any],
    ranks: Ranks = ALONE,
    frame: Frame = NO_FRAME,
) -> FitResult:
    """Train a potential in place; afterwards it holds the averaged weights of its best epoch, in evaluation mode.

    Continues by itself where ``run_dir/checkpoints`` says. The order of the data depends on seed and epoch alone and
    nothing else is random, so an interrupted run ends bit for bit like an undisturbed one on the same kind of machine with as many
    processes. Another number of them changes the order in which gradients are summed, and nothing else.

    Args:
        potential: In its final precision; called with a batch and ``compute_stress``, returns the labels that it predicts.
        train: Training structures, one a graph, float64.
        val: Validation structures.
        config: The trainer's settings.
        run_dir: Run folder.
        loggers: From :func:`kanmlip.training.loggers.build_loggers`; finalised here.
        seed: Seed of the order of the data.
        metadata: Plain data kept in the checkpoints.
        ranks: The processes that train together, of which this is the first.
        frame: What the run does before and after this; of interest to ``max_minutes``.

    Raises:
        ConfigError: If a label that the loss needs is missing, a structure is larger than a batch, the monitored metric does not exist,
            or the checkpoints are another run's.
        OutOfMemoryError: If memory does not suffice for the largest batch; before the first epoch, unless ``preflight`` is off.
        DivergenceError: If the loss or a weight is not finite, or the monitored metric in no epoch; checkpoints of earlier epochs stay.
        LostProcessError: If another process is gone.
    """
    check_labels(config.loss, {"training": train, "validation": val})
    check_limits(config.limits, train)
    fabric = open_fabric(config, ranks)
    potential.to(fabric.device)
    session, store = Session(potential, config), CheckpointStore(run_dir / "checkpoints", metadata.get("run_id"))
    # To the CPU: model and optimiser move what they hold on the device, and Adam's count of steps stays where a new one has it; on a GPU
    # every update would wait for it.
    state = store.resume(torch.device("cpu"))
    if state is not None:
        session.load_state_dict(state)
        print(f"resuming after epoch {session.epoch}", flush=True)
    session.evaluation = frame.evaluation
    share_state(session, ranks)
    take_off(session, train, val, fabric, ranks, frame)
    history = History(run_dir / "history.csv", session.rows)
    record_epochs(epochs(session, train, val, seed, fabric, store, metadata, ranks), history, loggers)
    peaks = ranks.gather(torch.cuda.max_memory_allocated(fabric.device) / 1e6 if fabric.device.type == "cuda" else None)
    check_measured(session)
    potential.load_state_dict(store.load_best(fabric.device)["model"])
    potential.eval()
    return FitResult.of(session, peaks, history.path)


def follow(potential: nn.Module, train: Sequence[Graph], val: Sequence[Graph], config: TrainerConfig, seed: int, ranks: Ranks) -> None:
    """What the processes of a run do besides the first: their parts of :func:`fit`, without writing anything.

    Args:
        potential: As the first process has it; its weights are replaced by that one's.
        train: The whole training set.
        val: The whole validation set.
        config: The trainer's settings.
        seed: Seed of the order of the data.
        ranks: The processes that train together.

    Raises:
        As :func:`fit`.
    """
    fabric = open_fabric(config, ranks)
    potential.to(fabric.device)
    session = session_of_first(potential, config, fabric, ranks)
    take_off(session, train, val, fabric, ranks)
    while session.stop_reason() is None:
        row = run_epoch(session, train, val, seed, fabric, ranks)
        session.end_epoch(float(row[config.monitor]), float(row["train/loss"]))
    ranks.gather(torch.cuda.max_memory_allocated(fabric.device) / 1e6 if fabric.device.type == "cuda" else None)


def check_measured(session: Session) -> None:
    """Refuse to go on without a best epoch."""
    if session.best_epoch == 0:
        raise DivergenceError(
            f"{session.config.monitor} was not finite in any of {session.epoch} epochs though the loss was: look for validation frames "
            f"that are unlike the training set, or try a smaller trainer.optimizer.lr"
        )


def share_state(session: Session, ranks: Ranks) -> None:
    """In the first process: give the others what it begins with, new or from its checkpoint."""
    if ranks.size > 1:
        ranks.share(session.state_dict({}))
        ranks.check_equal(session.potential, "at the start")


def session_of_first(potential: nn.Module, config: TrainerConfig, fabric: Fabric, ranks: Ranks) -> Session:
    """In the others: the first process's weights, calibrated scales and grids, optimiser and tally."""
    state = ranks.share(None)  # on the CPU, as in :func:`fit`
    potential.load_state_dict(state["model"])  # first of all: a grid decides the shape of what is trained
    session = Session(potential, config)
    session.load_state_dict(state)
    ranks.check_equal(potential, "at the start")
    return session


def take_off(session: Session, train: Sequence[Graph], val: Sequence[Graph], fabric: Fabric, ranks: Ranks, frame: Frame = NO_FRAME) -> None:
    """Try the largest batches, unless nothing is left to do or it is not wanted; what the run took until then is counted."""
    if session.config.preflight and session.stop_reason() is None:
        preflight(
            session.potential,
            lambda part: compute_gradients(session, part, fabric),
            session.config,
            {"training": train, "validation": val},
            fabric.device,
            ranks,
        )
        session.optimizer.zero_grad(set_to_none=True)
        if fabric.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(fabric.device)
    now = time.perf_counter()
    session.counted_at = now if frame.began is None else frame.began
    session.outside_s += float(ranks.share(session.lap(now) if ranks.leads else None))


def epochs(
    session: Session,
    train: Sequence[Graph],
    val: Sequence[Graph],
    seed: int,
    fabric: Fabric,
    store: CheckpointStore,
    metadata: Mapping[str, Any],
    ranks: Ranks = ALONE,
) -> Iterator[Row]:
    """Train epoch by epoch until the session says stop; each row of the history comes after its checkpoint is safe."""
    config, potential = session.config, session.potential
    with Progress(config.max_epochs, session.epoch, config.progress_bar, config.minutes) as progress:
        while session.stop_reason() is None:
            row = run_epoch(session, train, val, seed, fabric, ranks)
            improved = session.end_epoch(float(row[config.monitor]), float(row["train/loss"]))
            session.rows.append(row)
            if improved:
                with session.average.applied():
                    store.keep_best({"metadata": dict(metadata), "epoch": session.epoch, "model": potential.state_dict()})
            if session.stop_reason() is not None or session.epoch % config.checkpoint_every_epochs == 0:
                store.save_last(session.state_dict(metadata))
            yield row
            progress.advance(row, config.monitor)


def record_epochs(rows: Iterable[Row], history: History, loggers: Sequence[RunLogger]) -> None:
    """Send each epoch's row to the history and to the loggers, which end as the run does: successful, interrupted or failed."""
    outcome = "failed"
    try:
        for row in rows:
            history.append(row)
            for logger in loggers:
                logger.log_metrics({name: value for name, value in row.items() if name != "epoch"}, step=int(row["epoch"]))
        outcome = "success"
    except KeyboardInterrupt:
        outcome = "interrupted"
        raise
    finally:
        for logger in loggers:
            logger.finalize(outcome)


def open_fabric(config: TrainerConfig, ranks: Ranks = ALONE) -> Fabric:
    """Choose the device of this process, say which, and set threads and matrix precision."""
    from lightning.fabric import Fabric

    if config.threads is not None:
        torch.set_num_threads(config.threads)
    torch.set_float32_matmul_precision("high" if config.tf32 else "highest")
    wants_cuda = config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())
    if wants_cuda and not torch.cuda.is_available():
        raise ConfigError("trainer.device=cuda, but torch finds no CUDA device; use trainer.device=auto or trainer.device=cpu")
    # One device to Fabric, the current one, which the run was given a place on (kanmlip.experiment.gpu_slots): Fabric by itself takes the
    # first, and what several processes exchange is kanmlip.training.ranks.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The `srun` command is available")  # advice for runs of several tasks
        fabric = Fabric(accelerator="cuda" if wants_cuda else "cpu", devices=[torch.cuda.current_device()] if wants_cuda else 1)
    together = f" in {ranks.size} processes" if ranks.size > 1 else ""
    if wants_cuda:
        torch.cuda.reset_peak_memory_stats(fabric.device)
        print(f"training on {torch.cuda.get_device_name(fabric.device)}{together}", flush=True)
    else:
        keep_freed_memory()
        print(f"training on the CPU, {torch.get_num_threads()} thread(s){' each' if together else ''}{together}", flush=True)
    return fabric


def run_epoch(session: Session, train: Sequence[Graph], val: Sequence[Graph], seed: int, fabric: Fabric, ranks: Ranks = ALONE) -> Row:
    """Train on every structure once and validate the averaged weights; returns the epoch's row of the history."""
    config, potential = session.config, session.potential
    learning_rate = session.learning_rate
    potential.train()
    sums: dict[str, Tensor] = {}
    start = time.perf_counter()
    with advising("training", config, fabric.device):
        for part in training_batches(train, config.limits, seed, session.epoch, fabric.device, ranks):
            terms = training_step(session, part, fabric, ranks)
            for name, value in terms.items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value * part.structures
    # One look at the numbers an epoch: reading them makes a GPU wait.
    losses = mean_losses({name: float(total) for name, total in sums.items()}, len(train), ranks)
    seconds = time.perf_counter() - start
    if not all(abs(value) < float("inf") for value in losses.values()):
        raise DivergenceError(
            f"the loss became {losses['train/loss']} in epoch {session.epoch + 1} (learning rate {learning_rate:g}); checkpoints of "
            f"earlier epochs are kept; try a smaller trainer.optimizer.lr or trainer.gradient_clip"
        )
    session.train_s += seconds
    session.epoch_s.append(seconds)
    with session.average.applied(), advising("validation", config, fabric.device):
        metrics = evaluate(potential, val, config.eval_limits, fabric.device, with_predictions=False, ranks=ranks).metrics
    values = {f"val/{name}": value for name, value in metrics.items()}
    if config.monitor not in values:
        raise ConfigError(f"trainer.monitor={config.monitor} is not measured on this set; choose from: {', '.join(sorted(values))}")
    ranks.check_equal(potential, f"after epoch {session.epoch + 1}")
    # The first process's clock: all have to stop after the same epoch.
    now = time.perf_counter()
    spent_s, validation_s = ranks.share((session.lap(now), now - start - seconds) if ranks.leads else None)
    session.spent_s += spent_s
    session.validation_s += validation_s
    return {"epoch": session.epoch + 1, "lr": learning_rate, **losses, **values, "time/train_s": session.train_s}


def mean_losses(sums: Mapping[str, float], structures: int, ranks: Ranks) -> dict[str, float]:
    """Loss and terms over an epoch from what each process summed up; a process that had no structure knows of none."""
    totals: dict[str, float] = {}
    for own in ranks.gather(dict(sums)):
        for name, value in own.items():
            totals[name] = totals.get(name, 0.0) + value
    return {f"train/loss_{name}" if name != "loss" else "train/loss": total / structures for name, total in totals.items()}
