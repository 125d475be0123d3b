"""Updates until a fixed error: from the courses of validation that records keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kanmlip.evaluation.structure_errors import unpack
from kanmlip.report.bootstrap import DRAWS, SEED, Array
from kanmlip.report.records import Record
from kanmlip.report.structures import IncomparableError


@dataclass(frozen=True)
class Courses:
    """Two rows of runs, paired by seed.

    Attributes:
        monitor: The validation error that all of them followed.
        best: The lowest that each run came to, [2, seeds].
        needed: Updates that each run took to the best error of each run of both rows, [2 seeds, 2, seeds]; NaN where it never did.
    """

    monitor: str
    best: Array
    needed: Array

    @property
    def hardest(self) -> int:
        """The run whose best error is the largest, which every run reaches."""
        return int(self.best.argmax())

    @property
    def target(self) -> float:
        """Its best error."""
        return float(self.best.max())

    @property
    def updates(self) -> Array:
        """Updates until the target, [2, seeds]."""
        return np.asarray(self.needed[self.hardest])

    def draws(self, stream: int = 0) -> Array:
        """Bootstrap draws of the mean over seeds of ln(first row / second row), [DRAWS]; the target is that of the runs drawn."""
        seeds = self.best.shape[1]
        logs = np.log(self.needed[:, 0] / self.needed[:, 1])
        chosen = np.random.default_rng([SEED, stream]).integers(seeds, size=(DRAWS, seeds))
        largest = self.best.max(axis=0)[chosen].argmax(axis=1)
        seed = np.take_along_axis(chosen, largest[:, None], axis=1)[:, 0]
        hardest = self.best.argmax(axis=0)[seed] * seeds + seed
        return np.asarray(logs[hardest[:, None], chosen].mean(axis=1))


def read_courses(ours: Sequence[Record], theirs: Sequence[Record]) -> Courses:
    """The courses of two rows of runs of the same seeds.

    Raises:
        IncomparableError: If the runs monitored different errors, or do not keep their course, or not a readable one.
    """
    runs = [*ours, *theirs]
    monitors = {record.config.get("trainer", {}).get("monitor") for record in runs}
    if len(monitors) != 1 or (monitor := monitors.pop()) is None:
        raise IncomparableError("the runs did not monitor the same error")
    courses = [_course(record, monitor) for record in runs]
    best = np.array([np.nanmin(error) for _, error in courses])
    needed = np.array([[_first(updates, error, target) for updates, error in courses] for target in best])
    return Courses(monitor, best.reshape(2, -1), needed.reshape(len(runs), 2, -1))


def _course(record: Record, monitor: str) -> tuple[Array, Array]:
    history = record.history or {}
    if monitor not in history or "updates" not in history:
        raise IncomparableError("older records do not keep the course of validation")
    try:
        updates, error = unpack(history["updates"]), unpack(history[monitor])
    except ValueError as fault:
        raise IncomparableError(f"the course of validation of `{record.run_id}` is not readable") from fault
    if len(updates) != len(error) or not np.isfinite(error).any() or not (updates > 0).all():
        raise IncomparableError(f"the course of validation of `{record.run_id}` is not whole")
    return updates, error


def _first(updates: Array, error: Array, target: float) -> float:
    reached = np.flatnonzero(error <= target)
    return float(updates[reached[0]]) if len(reached) else float("nan")
