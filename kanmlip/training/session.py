"""Everything of a training run that changes from epoch to epoch, and that a checkpoint must hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, ReduceLROnPlateau

from kanmlip.training.averaging import ParameterAverage
from kanmlip.training.config import TrainerConfig
from kanmlip.training.history import Row


class Session:
    """Model, optimiser, schedule, average, and the tally of epochs.

    Args:
        potential: The model that is trained.
        config: The trainer's settings.

    Attributes:
        epoch: Epochs completed.
        updates: Optimiser steps made.
        train_s: Seconds spent training, over all parts of a resumed run, without validation.
        epoch_s: The same, epoch by epoch.
        spent_s: Seconds from the first epoch's beginning to the last one's end: validation, checkpoints and loggers included.
        validation_s: Those of validation.
        outside_s: Seconds of a run before its first epoch, over all parts of a resumed run.
        evaluation: What evaluating the trained model takes, as a multiple of a validation.
        counted_at: Until when this process has counted, by ``time.perf_counter``; not kept in checkpoints.
        best_value: Best value so far of the monitored metric.
        best_epoch: Its epoch, counted from 1; 0 before the first.
        stalled: Epochs since that metric last improved by more than ``early_stopping.min_delta``.
        rows: Rows of the history.
    """

    def __init__(self, potential: nn.Module, config: TrainerConfig) -> None:
        self.potential = potential
        self.config = config
        settings = config.optimizer
        kind = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
        parameters = [p for p in potential.parameters() if p.requires_grad]
        self.optimizer = kind(parameters, lr=settings.lr, weight_decay=settings.weight_decay, amsgrad=settings.amsgrad, foreach=True)
        self.scheduler = self._scheduler()
        self.average = ParameterAverage(potential, config.ema_decay)
        self.epoch = 0
        self.updates = 0
        self.train_s = 0.0
        self.epoch_s: list[float] = []
        self.spent_s = 0.0
        self.validation_s = 0.0
        self.outside_s = 0.0
        self.evaluation = 0.0
        self.counted_at = 0.0
        self.best_value = math.inf
        self.best_epoch = 0
        self.reference_value = math.inf
        self.stalled = 0
        self.rows: list[Row] = []

    def _scheduler(self) -> LRScheduler | None:
        schedule = self.config.schedule
        if schedule.name == "plateau":
            settings = schedule.model_dump(include={"factor", "patience", "cooldown", "min_lr"})
            return ReduceLROnPlateau(self.optimizer, **settings)
        if schedule.name == "cosine":
            return CosineAnnealingLR(self.optimizer, T_max=self.config.max_epochs, eta_min=schedule.min_lr)
        return None

    @property
    def learning_rate(self) -> float:
        """Of the next update."""
        return float(self.optimizer.param_groups[0]["lr"])

    def lap(self, now: float) -> float:
        """Seconds since the last call."""
        seconds, self.counted_at = now - self.counted_at, now
        return seconds

    def end_epoch(self, monitored: float, training_loss: float) -> bool:
        """Step the schedule and the tally; true if this epoch is the best so far."""
        self.epoch += 1
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(training_loss if self.config.schedule.follow == "training" else monitored)
        elif self.scheduler is not None:
            self.scheduler.step()
        if monitored < self.reference_value - self.config.early_stopping.min_delta:
            self.reference_value, self.stalled = monitored, 0
        else:
            self.stalled += 1
        improved = monitored < self.best_value
        if improved:
            self.best_value, self.best_epoch = monitored, self.epoch
        return improved

    def stop_reason(self) -> str | None:
        """Why there is no further epoch, or none if there is one."""
        patience = self.config.early_stopping.patience
        if patience is not None and self.stalled >= patience:
            return f"no improvement of {self.config.monitor} for {patience} epochs"
        if self.epoch >= self.config.max_epochs:
            return "max_epochs"
        limit = self.config.max_minutes
        if limit is not None and self.epoch > 0 and self.seconds_with_another_epoch() > 60 * limit:
            return f"trainer.max_minutes={limit:g} leaves no time for epoch {self.epoch + 1} of {self.config.max_epochs}"
        return None

    def seconds_with_another_epoch(self) -> float:
        """What the run will have taken, from its beginning to its evaluation, if there is an epoch more like those before."""
        epoch_s, validation_s = self.spent_s / self.epoch, self.validation_s / self.epoch
        return self.outside_s + self.spent_s + epoch_s + self.evaluation * validation_s

    def state_dict(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """What ``last.ckpt`` holds: tensors, numbers and strings only."""
        return {
            "metadata": dict(metadata),
            "model": self.potential.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "average": self.average.state_dict(),
            "tally": {name: getattr(self, name) for name in TALLY},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where :meth:`state_dict` was taken."""
        self.potential.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.average.load_state_dict(state["average"])
        for name in TALLY:
            setattr(self, name, state["tally"].get(name, 0.0) if name in NEWER else state["tally"][name])


# Those that checkpoints of earlier versions lack.
NEWER = ("spent_s", "validation_s", "outside_s", "evaluation")
TALLY = ("epoch", "updates", "train_s", "epoch_s", "best_value", "best_epoch", "reference_value", "stalled", "rows", *NEWER)
