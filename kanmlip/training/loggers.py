"""Where a run's progress goes: CSV always, TensorBoard and Weights & Biases on request."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kanmlip.errors import MissingDependencyError
from kanmlip.schema import Schema

if TYPE_CHECKING:
    from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger


class LoggerConfig(Schema):
    """Loggers of a run; none of them changes what is computed.

    Attributes:
        csv: Part of every run folder (``history.csv``); named here so that ``logger=csv`` says what it does.
        tensorboard: Event files under ``<run>/tensorboard``.
        wandb: A W&B run under ``<run>/wandb``; offline unless ``WANDB_API_KEY`` or ``WANDB_MODE`` says otherwise.
        project: W&B project.
        group: W&B group, such as a table's name.
        tags: W&B tags.
    """

    csv: bool = True
    tensorboard: bool = False
    wandb: bool = False
    project: str = "kanmlip"
    group: str | None = None
    tags: tuple[str, ...] = ()


class RunLogger(Protocol):
    """The part of Lightning's loggers that the trainer calls."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record numbers at a step."""

    def finalize(self, status: str) -> None:
        """Training ended, as ``success``, ``interrupted`` or ``failed``; where it succeeded ``conclude`` may follow."""


class Concluding(RunLogger, Protocol):
    """A logger that also shows what a run came to."""

    def conclude(self, metrics: Mapping[str, float], files: Mapping[str, Path]) -> None:
        """End a run that went well.

        Args:
            metrics: The content of metrics.json.
            files: ``record``, and ``best`` and ``last`` checkpoint.
        """


def build_loggers(config: LoggerConfig, run_dir: Path, run_id: str, settings: Mapping[str, Any]) -> list[Concluding]:
    """Open the loggers that the settings ask for.

    Args:
        config: Which.
        run_dir: The run folder; loggers write inside it.
        run_id: Name and, for W&B, identity of the run: a resumed run continues its W&B run.
        settings: All settings as plain data, for the loggers' own display.

    Raises:
        MissingDependencyError: If the logger's package is not installed.
    """
    loggers: list[Concluding] = []
    if config.tensorboard:
        _require("tensorboard", "tensorboard")
        from lightning.pytorch.loggers import TensorBoardLogger

        tensorboard = TensorBoardLogger(save_dir=run_dir, name="", version="tensorboard", default_hp_metric=False)
        tensorboard.log_hyperparams(dict(settings))
        loggers.append(_Contained("tensorboard", _WithFinalMetrics(tensorboard)))
    if config.wandb:
        _require("wandb", "wandb")
        loggers.append(_Contained("wandb", _FinishedByStatus(_open_wandb(config, run_dir, run_id, settings))))
    return loggers


def _require(package: str, key: str) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise MissingDependencyError(
            f"logger.{key}=true needs {package}, which is not installed; run: pip install {package}, or use logger=csv"
        )


def _open_wandb(config: LoggerConfig, run_dir: Path, run_id: str, settings: Mapping[str, Any]) -> WandbLogger:
    from lightning.pytorch.loggers import WandbLogger

    mode = os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
    return WandbLogger(
        name=run_id,
        id=run_id,
        save_dir=run_dir,
        project=config.project,
        group=config.group,
        tags=list(config.tags),
        config=dict(settings),
        mode=mode,
        resume="allow" if mode == "online" else None,
        settings={"console": "off", "silent": True},
    )


class _WithFinalMetrics:
    """TensorBoard, with the final metrics as scalars ``final/<key of the record>``."""

    def __init__(self, logger: TensorBoardLogger) -> None:
        self.logger = logger

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.logger.log_metrics(dict(metrics), step)

    def finalize(self, status: str) -> None:
        if status != "success":
            self.logger.finalize(status)

    def conclude(self, metrics: Mapping[str, float], files: Mapping[str, Path]) -> None:
        self.logger.log_metrics({f"final/{key}": value for key, value in metrics.items()}, int(metrics.get("time/epochs", 0)))
        self.logger.finalize("success")


class _Contained:
    """A logger whose failure is said once and ends nothing but itself: a run must not die of a server that does not answer."""

    def __init__(self, name: str, logger: Concluding) -> None:
        self.name = name
        self.logger: Concluding | None = logger

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._call(lambda logger: logger.log_metrics(metrics, step))

    def finalize(self, status: str) -> None:
        self._call(lambda logger: logger.finalize(status))

    def conclude(self, metrics: Mapping[str, float], files: Mapping[str, Path]) -> None:
        self._call(lambda logger: logger.conclude(metrics, files))

    def _call(self, action: Callable[[Concluding], None]) -> None:
        if self.logger is None:
            return
        try:
            action(self.logger)
        except Exception as error:  # loggers raise what their servers, files and libraries make them
            self.logger = None
            text = f"logger.{self.name} failed ({type(error).__name__}: {error}) and is left out from here on; history.csv has everything"
            sys.stderr.write(f"{text}\n")


class _FinishedByStatus:
    """A W&B logger whose run ends as what it was: one that failed, or that died before it was evaluated, is not shown as finished.

    The summary of a finished run has the names and values of its record, and an artifact has the record and the checksums of the
    checkpoints, which themselves stay where they are.
    """

    def __init__(self, logger: WandbLogger) -> None:
        self.logger = logger

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.logger.log_metrics(dict(metrics), step)

    def finalize(self, status: str) -> None:
        self.logger.finalize(status)
        if status != "success":
            self.logger.experiment.finish(exit_code=1)

    def conclude(self, metrics: Mapping[str, float], files: Mapping[str, Path]) -> None:
        import wandb

        run = self.logger.experiment
        run.summary.update(dict(metrics))
        checksums = {f"{name}_sha256": _sha256(path) for name, path in files.items() if path.is_file()}
        artifact = wandb.Artifact(f"run-{run.id}", type="run", metadata=checksums)
        artifact.add_file(str(files["record"]), name="record.json")
        run.log_artifact(artifact)
        run.finish(exit_code=0)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
