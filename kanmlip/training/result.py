"""What a training run came to."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kanmlip.training.session import Session


@dataclass(frozen=True)
class FitResult:
    """What a training run came to.

    Attributes:
        epochs_run: Epochs in all parts of a resumed run.
        updates: Optimiser steps.
        train_s: Seconds in the training loop, validation and set-up excluded.
        per_epoch_s: Median of an epoch's seconds.
        best_epoch: Epoch of the weights that the potential now has, counted from 1.
        best_value: Their value of the monitored metric.
        stopped_because: ``max_epochs`` or the early stopping's reason.
        peak_allocated_MB: Peak memory allocated by torch on the GPU, the fullest one of several; none on a CPU.
        history_path: history.csv.
    """

    epochs_run: int
    updates: int
    train_s: float
    per_epoch_s: float
    best_epoch: int
    best_value: float
    stopped_because: str
    peak_allocated_MB: float | None  # noqa: N815 - the unit's own case
    history_path: Path

    @classmethod
    def of(cls, session: Session, peaks: Sequence[float | None], history_path: Path) -> FitResult:
        """What a session came to; ``peaks`` are the memory of each process's GPU in MB, none of a CPU."""
        known = [peak for peak in peaks if peak is not None]
        return cls(
            epochs_run=session.epoch,
            updates=session.updates,
            train_s=session.train_s,
            per_epoch_s=statistics.median(session.epoch_s),
            best_epoch=session.best_epoch,
            best_value=session.best_value,
            stopped_because=session.stop_reason() or "max_epochs",
            peak_allocated_MB=max(known) if len(known) == len(peaks) else None,
            history_path=history_path,
        )
