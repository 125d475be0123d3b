"""What a run will cost: from records of the same kind where there are any, else from a calibrated model."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from kanmlip.experiment.config import RunConfig
from kanmlip.experiment.record import labels
from kanmlip.report.records import Labels, Record
from kanmlip.reproduction.spec import Cost, Costs

# A model or size that nobody measured is taken for the dearest known.
UNMEASURED = "unmeasured"
# Start, validation and evaluation add 15 to 33 % to the training time of the committed runs of budget small.
AROUND_TRAINING = 1.2


@dataclass(frozen=True)
class Estimate:
    """Cost of one run on one core.

    Attributes:
        seconds: From start to record.
        memory_MB: Peak resident memory of the worker.
        disk_MB: Of the run folder.
        basis: ``records`` of the same kind, the ``model`` of costs, or ``unmeasured``.
    """

    seconds: float
    memory_MB: float  # noqa: N815 - the unit's own case
    disk_MB: float  # noqa: N815
    basis: str


class Estimator:
    """Estimates by records and, failing these, by the cost model.

    Args:
        costs: The cost model.
        records: Of finished runs.
    """

    def __init__(self, costs: Costs, records: Iterable[Record]) -> None:
        self.costs = costs
        self.seconds_of: dict[tuple[Labels, object], list[float]] = {}
        for record in records:
            if (seconds := run_seconds(record)) is not None:
                self.seconds_of.setdefault(_kind(record.labels, record.config), []).append(seconds)

    def estimate(self, config: RunConfig) -> Estimate:
        """Cost of one run."""
        cost, measured = self.cost(config.model.name, config.budget.size)
        known = self.seconds_of.get(_kind(Labels.model_validate(labels(config)), config.science()))
        if known:
            return Estimate(statistics.median(known), cost.memory_MB, cost.disk_MB, "records")
        head = 1.0 if config.basis_name is None else self.costs.heads.get(config.placement.name, max(self.costs.heads.values()))
        frames, evaluated = self.frames(config)
        an_epoch = (frames + self.costs.evaluation * evaluated) * cost.frame_s * head * self.costs.data.get(config.dataset.name, 1.0)
        seconds = self.costs.start_s + config.trainer.max_epochs * an_epoch
        return Estimate(seconds, cost.memory_MB, cost.disk_MB, "model" if measured else UNMEASURED)

    def frames(self, config: RunConfig) -> tuple[int, int]:
        """Structures in training and in validation."""
        train, val = self.costs.all_frames.get(config.dataset.name, max(self.costs.all_frames.values()))
        return config.dataset.n_train or train, config.dataset.n_val or val

    def cost(self, model: str, size: str) -> tuple[Cost, bool]:
        """Cost of a model at a size, and whether it was measured."""
        known = self.costs.models.get(model, {}).get(size)
        if known is not None:
            return known, True
        every = [cost for sizes in self.costs.models.values() for cost in sizes.values()]
        return max(every, key=lambda cost: cost.frame_s), False


def run_seconds(record: Record) -> float | None:
    """Of a whole run, from its training time; clocks at its start and end would count the time it was stopped."""
    train_s = record.value("time/train_s")
    return None if train_s is None else AROUND_TRAINING * train_s


def _kind(labels: Labels, science: dict[str, object]) -> tuple[Labels, object]:
    """What runs that take equally long have in common: all labels but the seed, and how long they train."""
    trainer = science.get("trainer")
    names = ("max_epochs", "batch_size", "batch_atoms", "batch_edges")
    length = tuple(trainer.get(name) for name in names) if isinstance(trainer, dict) else None
    return labels.model_copy(update={"seed": 0}), length
