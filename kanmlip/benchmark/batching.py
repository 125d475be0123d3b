"""Batches filled by size against batches of a fixed number of structures: structures a second of training at equal peak memory.

``python -m kanmlip.benchmark.batching JSON`` measures the peak of one contender in a process of its own, which does with freed memory
what training does: the peak is that of the processes whose speed is compared.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np

from kanmlip.benchmark.bars import Bar
from kanmlip.benchmark.interleave import Ratio, interleave, paired, synchronise
from kanmlip.benchmark.memory import measure_peak, run_child
from kanmlip.benchmark.training_step import Setting
from kanmlip.data.batching import Limits, Sizes, epoch_batches, largest_batch
from kanmlip.placement.config import PlacementConfig
from kanmlip.training.order import training_batches

FIXED, BY_SIZE = "fixed", "by size"
GAIN = 1.3  # issue 7: structures a second, by size over fixed, at equal peak memory
# How often the limit may be lowered for the peak not to exceed that of fixed batches, and how much nearer each time.
ATTEMPTS = 4
SEED = 1


@dataclass(frozen=True)
class Contest:
    """What is compared.

    Attributes:
        model: Name in conf/model, with MLPs.
        size: Column of its sizes.
        dataset: Name in conf/dataset.
        frames: Training structures, the first so many of the budget's; none for all.
        batch_size: Structures in a fixed batch.
        device: ``cpu`` or ``cuda``.
        rounds: Epochs of each.
        threads: Of the process.
    """

    model: str
    size: str
    dataset: str
    frames: int | None
    batch_size: int
    device: str
    rounds: int
    threads: int = 1


@dataclass(frozen=True)
class Side:
    """One way to make batches, and what it came to.

    Attributes:
        limits: Of a batch.
        updates: In an epoch, on average.
        fill: Smallest and mean number of edges in a batch over the largest.
        peak_mib: Highest of a run above what is there without a batch; none where the system does not tell.
        seconds: Of a structure, median.
    """

    limits: Limits
    updates: float
    fill: tuple[float, float]
    peak_mib: float | None
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """Both sides, and structures a second by size over fixed."""

    fixed: Side
    by_size: Side
    gain: Ratio
    structures: int

    @property
    def bar(self) -> Bar:
        """The issue's bar; not measured if the peaks are unknown, or if the second one is the higher."""
        peaks = self.fixed.peak_mib, self.by_size.peak_mib
        fair = None not in peaks and cast("float", peaks[1]) <= 1.01 * cast("float", peaks[0])
        return Bar("structures a second at equal peak memory: by size / fixed", GAIN, self.gain if fair else None, at_least=True)


def prepare(contest: Contest) -> Setting:
    """Model, statistics and structures.

    Raises:
        kanmlip.errors.KanmlipError: If the model or the data are not there.
    """
    from kanmlip.data.root import cache_root, data_root
    from kanmlip.data.statistics import compute_statistics
    from kanmlip.experiment.configure import compose_run

    arguments = [f"model={contest.model}", f"dataset={contest.dataset}", "budget=small", f"budget.size={contest.size}"]
    trainer = [f"trainer.device={contest.device}", f"trainer.threads={contest.threads}", "trainer.progress_bar=false"]
    config = compose_run([*arguments, *trainer])
    frames = config.dataset.load(data_root()).train
    graphs = config.model.graphs(frames[: contest.frames], cache_root())
    return Setting(config.model, compute_statistics(graphs, config.model.cutoff), graphs, config.trainer)


def compare(contest: Contest, say: Callable[[str], None] = lambda _: None) -> Outcome:
    """Find the limit of equal peak memory, then train by both in turns, in one process."""
    setting = prepare(contest)
    sizes = Sizes.of(setting.graphs)
    fixed = Limits(contest.batch_size)
    say(f"{len(setting.graphs)} structures; peak memory of batches of {contest.batch_size}")
    ceiling = _peak(contest, fixed)
    share, by_size, peak = 1.0, fixed, None
    for _ in range(ATTEMPTS):
        by_size = filled(sizes, fixed, share)
        peak = _peak(contest, by_size)
        say(f"batches of {rule(by_size)}: {peak or 0:.0f} MiB, and {ceiling or 0:.0f} MiB are to be kept to")
        if peak is None or ceiling is None or peak <= ceiling:
            break
        share *= 0.98 * ceiling / peak
    limits = {FIXED: fixed, BY_SIZE: by_size}
    epochs = {name: _epochs(setting, each) for name, each in limits.items()}
    seconds = interleave(epochs, contest.rounds, warmup=1)
    gain = paired(seconds[FIXED], seconds[BY_SIZE])
    sides = {name: _side(sizes, limits[name], contest.rounds, p, seconds[name]) for name, p in ((FIXED, ceiling), (BY_SIZE, peak))}
    return Outcome(sides[FIXED], sides[BY_SIZE], gain, len(setting.graphs))


def filled(sizes: Sizes, fixed: Limits, share: float = 1.0) -> Limits:
    """The atoms and edges of the largest fixed batch, or a share of them, but room for the largest structure."""
    largest = largest_batch(sizes, fixed)
    atoms, edges = (max(int(share * count[largest].sum()), int(count.max())) for count in (sizes.atoms, sizes.edges))
    return Limits(atoms=atoms, edges=edges)


def rule(limits: Limits) -> str:
    """Limits in words."""
    return f"{limits.structures} structures" if limits.structures else f"≤ {limits.atoms} atoms, ≤ {limits.edges} edges"


def _side(sizes: Sizes, limits: Limits, rounds: int, peak: float | None, seconds: np.ndarray) -> Side:
    loads = [[int(sizes.edges[batch].sum()) for batch in _batches(sizes, limits, epoch)] for epoch in range(rounds)]
    flat = np.array([load for epoch in loads for load in epoch])
    fill = float(flat.min() / flat.max()), float(flat.mean() / flat.max())
    return Side(limits, float(np.mean([len(epoch) for epoch in loads])), fill, peak, float(np.median(seconds)))


def _batches(sizes: Sizes, limits: Limits, epoch: int) -> list[list[int]]:
    return epoch_batches(sizes, limits, np.random.default_rng([SEED, epoch]))


def _epochs(setting: Setting, limits: Limits) -> Callable[[], float]:
    """Each call trains one epoch, the next one, and returns the seconds of a structure."""
    from kanmlip.training.loop import open_fabric
    from kanmlip.training.session import Session
    from kanmlip.training.step import training_step

    fabric = open_fabric(setting.trainer)
    session = Session(setting.build(PlacementConfig(name="none"), _NoBasis()).to(fabric.device).train(), setting.trainer)
    state = {"epoch": 0}

    def epoch() -> float:
        synchronise()
        start = time.perf_counter()
        for part in training_batches(setting.graphs, limits, SEED, state["epoch"], fabric.device):
            training_step(session, part, fabric)
        synchronise()
        state["epoch"] += 1
        return (time.perf_counter() - start) / len(setting.graphs)

    return epoch


def _peak(contest: Contest, limits: Limits) -> float | None:
    request = {"contest": asdict(contest), "limits": asdict(limits)}
    return cast("float | None", run_child("kanmlip.benchmark.batching", request, f"memory of {limits}", returning=False))


def _child(request: dict[str, Any]) -> float | None:
    """MiB of the largest batch, which training tries first (preflight), and two epochs.

    A warm-up on the smallest structure has loaded what is loaded once.
    """
    from kanmlip.training.loop import open_fabric
    from kanmlip.training.order import part_of
    from kanmlip.training.ranks import ALONE
    from kanmlip.training.session import Session
    from kanmlip.training.step import training_step

    contest, limits = Contest(**request["contest"]), Limits(**request["limits"])
    setting = prepare(contest)
    fabric = open_fabric(setting.trainer)
    session = Session(setting.build(PlacementConfig(name="none"), _NoBasis()).to(fabric.device).train(), setting.trainer)
    sizes = Sizes.of(setting.graphs)
    for _ in range(2):
        training_step(session, part_of(setting.graphs, [int(sizes.edges.argmin())], sizes, fabric.device, ALONE), fabric)

    def run() -> None:
        training_step(session, part_of(setting.graphs, largest_batch(sizes, limits), sizes, fabric.device, ALONE), fabric)
        for epoch in range(2):
            for part in training_batches(setting.graphs, limits, SEED, epoch, fabric.device):
                training_step(session, part, fabric)

    return measure_peak(run, contest.device)


class _NoBasis:
    """Of a model without KANs."""

    name, backend = "none", "auto"

    def build(self) -> Any:
        raise NotImplementedError("placement=none builds no basis")


def report(contest: Contest, outcome: Outcome, header: str) -> str:
    """Markdown: what was compared, both sides, the gain and the bar."""
    from kanmlip.benchmark.report import bars_table, table

    rows = []
    for name, side in ((FIXED, outcome.fixed), (BY_SIZE, outcome.by_size)):
        peak = "–" if side.peak_mib is None else f"{side.peak_mib:.0f}"
        fill = f"{100 * side.fill[0]:.0f} % / {100 * side.fill[1]:.0f} %"
        rows.append((f"{name}: {rule(side.limits)}", f"{side.updates:.0f}", fill, peak, f"{1 / side.seconds:.2f}"))
    columns = ("batches", "updates an epoch", "least / mean edges of the fullest", "peak memory, MiB", "structures a second")
    frames = f"{outcome.structures} training structures of {contest.dataset}"
    return (
        f"# Batches filled by size\n\n{header}\n{contest.model}, size {contest.size}, MLPs; {frames}; training epochs in turns "
        f"(A/B/B/A) in one process, collation included. The limits are the atoms and edges of the largest fixed batch that there can "
        f"be, lowered until peak memory is not above its: of two epochs and, before them, the largest batch, which training tries first; "
        f"each in a process of its own that keeps freed memory as training does.\n\n"
        f"{table(columns, rows)}\n"
        f"By size / fixed: {outcome.gain} times as many structures a second.\n\n{bars_table([outcome.bar])}"
    )


def plain(contest: Contest, outcome: Outcome, environment: dict[str, Any], machine: dict[str, Any]) -> dict[str, Any]:
    """The same as plain data."""
    return {
        "environment": environment, "machine": machine, "contest": asdict(contest), "outcome": asdict(outcome),
        "bars": [outcome.bar.to_dict()],
    }  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    """Print the peak that a request asks for, as JSON."""
    print(json.dumps(_child(json.loads(arguments[0]))))


if __name__ == "__main__":
    main(sys.argv[1:])
