"""What the trainer's general settings come to for one model and one dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kanmlip.experiment.rules import AUTO, MONITORS, loss_weights

if TYPE_CHECKING:
    from kanmlip.experiment.config import RunConfig


def adapt(config: RunConfig) -> RunConfig:
    """Set loss weights of labels that the model does not predict to 0, and name the metric that ``trainer.monitor=auto`` stands for.

    The trainer then needs to know nothing of models, and what is recorded is what was done. A second time changes nothing.

    Args:
        config: A configuration that :func:`kanmlip.experiment.rules.check_rules` has passed.
    """
    trainer = config.trainer
    weights = {label: weight if label in config.model.predicts else 0.0 for label, weight in loss_weights(trainer.loss).items()}
    learned = (metric for label, metric in MONITORS.items() if weights[label] > 0)
    monitor = next(learned) if trainer.monitor == AUTO else trainer.monitor
    adapted = trainer.model_copy(update={"loss": trainer.loss.model_copy(update=weights), "monitor": monitor})
    return config.model_copy(update={"trainer": adapted})
