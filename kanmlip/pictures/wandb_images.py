"""Pictures in the W&B run of a training run, where it had one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from kanmlip.errors import MissingDependencyError
from kanmlip.training.loggers import LoggerConfig


def log_pictures(config: LoggerConfig, run_dir: Path, pictures: Sequence[Path]) -> None:
    """Add PNG files to the W&B run of a run folder, under ``pictures/<name>``.

    Online the finished run is continued. Offline another folder with the same id is written; ``wandb sync --append`` joins the two.

    Args:
        config: The run's own logger settings.
        run_dir: The run folder, whose name is the id.
        pictures: Files; those that are no PNG are left out.

    Raises:
        MissingDependencyError: If wandb is not installed.
    """
    if find_spec("wandb") is None:
        raise MissingDependencyError("this run was logged to W&B; run: pip install wandb, or give --no-wandb")
    import wandb

    mode = os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
    run = wandb.init(
        id=run_dir.name,
        name=run_dir.name,
        dir=str(run_dir),
        project=config.project,
        group=config.group,
        mode="offline" if mode == "offline" else "online" if mode == "online" else "disabled",
        resume="allow" if mode == "online" else None,
        settings=wandb.Settings(console="off", silent=True),
    )
    run.log({f"pictures/{path.stem}": wandb.Image(str(path)) for path in pictures if path.suffix == ".png"})
    run.finish()
