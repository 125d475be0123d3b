"""Before the first epoch: do the largest batches fit into memory? If not, which setting to lower, and to what.

Nothing of a run changes by it: gradients are dropped, and no step of the optimiser is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn

from kanmlip.data.batching import Limits, Sizes, consecutive_batches, divide, largest_batch
from kanmlip.data.graph import Graph, batch_graphs
from kanmlip.errors import OutOfMemoryError
from kanmlip.evaluation.assessment import evaluate
from kanmlip.experiment.death import is_out_of_memory
from kanmlip.training.config import TrainerConfig
from kanmlip.training.memory import Memory
from kanmlip.training.order import Part
from kanmlip.training.ranks import ALONE, Ranks

# Of the memory that there is, what a batch may be advised to take: fragments and the next batch need some, too.
SAFE = 0.9


@dataclass(frozen=True)
class Trial:
    """A batch to try.

    Attributes:
        what: ``training`` or ``evaluation``.
        graphs: Its structures, most work first; of several processes, those of this one.
        whole: Sizes of all its structures, most work first.
        run: Computes on structures what the run will.
    """

    what: str
    graphs: Sequence[Graph]
    whole: Sizes
    run: Callable[[Sequence[Graph]], object]


def preflight(
    potential: nn.Module,
    gradients: Callable[[Part], object],
    config: TrainerConfig,
    splits: Mapping[str, Sequence[Graph]],
    device: torch.device,
    ranks: Ranks = ALONE,
    memory: Memory | None = None,
) -> None:
    """Try the largest batch of training and the largest one of evaluation.

    Args:
        potential: The model.
        gradients: Computes a part's loss and gradient, as a training step does.
        config: The trainer's settings.
        splits: ``training`` and ``validation``, one structure a graph.
        device: Where training will be.
        ranks: The processes that divide batches; each tries its own part.
        memory: What measures; for tests.

    Raises:
        OutOfMemoryError: With what is needed, what there is, and which setting to lower to what.
    """
    memory = memory or Memory(device, ranks.size)
    train = splits["training"]
    sizes = Sizes.of(train)
    batch = np.array(largest_batch(sizes, config.limits))
    mine = batch[divide(sizes.work[batch], ranks.size)[ranks.rank]]

    def differentiate(graphs: Sequence[Graph]) -> None:
        potential.train()
        potential.zero_grad(set_to_none=True)
        gradients(Part(batch_graphs(graphs).to(device), len(graphs)))

    def assess(graphs: Sequence[Graph]) -> None:
        evaluate(potential, graphs, Limits(len(graphs)), device, with_predictions=False)

    # At the end of the run the training set is evaluated, too, and that by the first process alone.
    dividers = {ranks, ALONE} if ranks.leads else {ranks}
    evaluated = [largest_evaluated(graphs, config.eval_limits, each) for graphs in splits.values() for each in dividers]
    heaviest = max(evaluated, key=_total_work)
    for trial in (
        Trial("training", [train[i] for i in mine], Sizes.of([train[i] for i in batch]), differentiate),
        Trial("evaluation", heaviest, Sizes.of(heaviest), assess),
    ):
        if trial.graphs:
            need = try_out(trial, config, memory)
            if ranks.leads and need is not None and config.progress_bar:
                print(f"largest {describe(trial)}: {need / 1e9:.2g} GB", flush=True)
    potential.zero_grad(set_to_none=True)


def largest_evaluated(graphs: Sequence[Graph], limits: Limits, ranks: Ranks) -> list[Graph]:
    """The batch with the most work of those in which this process evaluates its part of a set; most work first."""
    mine = [graphs[i] for i in divide(Sizes.of(graphs).work, ranks.size)[ranks.rank]]
    if not mine:
        return []
    batches = [[mine[i] for i in batch] for batch in consecutive_batches(Sizes.of(mine), limits)]
    largest = max(batches, key=_total_work)
    return sorted(largest, key=lambda graph: -_total_work([graph]))


def try_out(trial: Trial, config: TrainerConfig, memory: Memory) -> float | None:
    """Compute a batch once.

    On a CPU, where the system may kill a process that takes too much, half of the batch goes first, and the whole only if twice that
    is there.

    Returns:
        Bytes that it took; none where the system does not tell.

    Raises:
        OutOfMemoryError: If it does not fit.
    """
    graphs, room = trial.graphs, memory.available()
    if not memory.refuses_alone and len(graphs) > 1:
        trial.run(graphs[-1:])  # libraries load on first use, which is not the batch's need
        half = graphs[: (len(graphs) + 1) // 2]
        need = _scaled(memory.peak(lambda: trial.run(half)), half, graphs)
        if need is not None and room is not None and need > room:
            raise OutOfMemoryError(advice(trial, config, need, room))
    try:
        return memory.peak(lambda: trial.run(graphs))
    except Exception as error:
        if isinstance(error, OutOfMemoryError) or not is_out_of_memory(error):
            raise
    memory.release()  # out of the handler, which keeps the batch's tensors alive
    raise OutOfMemoryError(advice(trial, config, _need_by_parts(trial, memory), room))


def _need_by_parts(trial: Trial, memory: Memory) -> float | None:
    """Bytes that a batch would take, by the largest half, quarter, ... of it that fits; none if no structure fits alone."""
    count = len(trial.graphs) // 2
    while count >= 1:
        part = trial.graphs[:count]
        try:
            return _scaled(memory.peak(partial(trial.run, part)), part, trial.graphs)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        memory.release()
        count //= 2
    return None


def advice(trial: Trial, config: TrainerConfig, need: float | None, room: float | None) -> str:
    """What does not fit, and the way out.

    Args:
        trial: The batch.
        config: The settings that made it.
        need: Bytes that it takes; none if not even one structure fitted.
        room: Bytes that there are; none if the system does not tell.
    """
    found = f"the largest {describe(trial)} does not fit into memory"
    if need is not None:
        found += f": it needs about {need / 1e9:.2g} GB" + (f", and {room / 1e9:.2g} GB are there" if room is not None else "")
    share = SAFE * room / need if need is not None and room is not None else 0.5 if need is not None else 0.0
    fitting = int(np.searchsorted(np.cumsum(trial.whole.work), share * trial.whole.work.sum(), side="right"))
    if share >= 1 or fitting == 0:
        way = (
            f"not even its largest structure ({trial.whole.atoms[0]} atoms, {trial.whole.edges[0]} edges) fits alone: choose a smaller "
            f"model or model.cutoff, trainer.precision=float32, or leave such structures out"
        )
        return f"{found}; {way if share < 1 else 'free memory that other processes hold'}"
    return f"{found}; {' or '.join(_ways_out(trial, config, share, fitting))}"


def _ways_out(trial: Trial, config: TrainerConfig, share: float, fitting: int) -> list[str]:
    edges, atoms = int(share * trial.whole.edges.sum()), int(share * trial.whole.atoms.sum())
    ways = []
    if config.batch_edges is not None:
        ways.append(f"set trainer.batch_edges={min(edges, config.batch_edges)} (now {config.batch_edges})")
    elif config.batch_atoms is not None:
        ways.append(f"set trainer.batch_atoms={min(atoms, config.batch_atoms)} (now {config.batch_atoms})")
    elif trial.what == "evaluation":
        ways.append(f"set trainer.eval_batch_size={fitting} (now {config.eval_batch_size}), which changes no result")
    else:
        ways.append(f"set trainer.batch_size={fitting} (now {config.batch_size})")
        if edges >= trial.whole.edges.max():
            ways.append(f"trainer.batch_edges={edges}, which fills all batches alike")
    if config.device != "cpu" and torch.cuda.device_count() > config.devices:
        ways.append(f"divide batches over more GPUs by trainer.devices={torch.cuda.device_count()}")
    return ways


@contextmanager
def advising(what: str, config: TrainerConfig, device: torch.device) -> Iterator[None]:
    """Say what to do where memory runs out later: other processes, or fragments, took what was there before the first epoch.

    Raises:
        OutOfMemoryError: In the place of whatever torch or the system raised.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OutOfMemoryError) or not is_out_of_memory(error):
            raise
        room = Memory(device).available()
        names = ("batch_edges", "batch_atoms", "batch_size" if what == "training" else "eval_batch_size")
        setting = next(f"trainer.{name}={getattr(config, name)}" for name in names if getattr(config, name) is not None)
        left = f", {room / 1e9:.2g} GB are left" if room is not None else ""
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OutOfMemoryError(
            f"memory ran out in {what}{left}: set less than {setting}, or end what else uses this device ({said})"
        ) from error


def describe(trial: Trial) -> str:
    """``training batch (5 structures, 620 atoms, 41000 edges)``."""
    sizes = trial.whole
    plural = "s" if len(sizes.atoms) > 1 else ""
    return f"{trial.what} batch ({len(sizes.atoms)} structure{plural}, {sizes.atoms.sum()} atoms, {sizes.edges.sum()} edges)"


def _scaled(peak: float | None, part: Sequence[Graph], whole: Sequence[Graph]) -> float | None:
    return None if peak is None else peak * _total_work(whole) / _total_work(part)


def _total_work(graphs: Sequence[Graph]) -> int:
    return int(Sizes.of(graphs).work.sum())
