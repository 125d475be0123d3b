"""Tables, figures and report as a W&B artifact, in a run of their own; offline unless there is a key."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kanmlip.errors import MissingDependencyError
from kanmlip.training.loggers import LoggerConfig

PARTS = ("REPORT.md", "tables", "figures")


def log_report(config: LoggerConfig, results: Path, budget: str) -> None:
    """Log what ``kanmlip-tables`` wrote.

    Args:
        config: Logger settings of the runs.
        results: Results root.
        budget: Of the reproduction; the artifact is ``report-<budget>``.

    Raises:
        MissingDependencyError: If wandb is not installed.
    """
    try:
        import wandb
    except ImportError as error:
        raise MissingDependencyError("logger.wandb=true needs wandb, which is not installed; run: pip install wandb") from error
    folder = results / "runs" / f"report-{budget}"  # not committed, as the runs
    folder.mkdir(parents=True, exist_ok=True)
    mode: Any = os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
    run = wandb.init(
        project=config.project,
        name=f"report-{budget}",
        group=f"report, {budget}",
        job_type="report",
        tags=[budget, "report"],
        dir=str(folder),
        mode=mode,
        settings=wandb.Settings(console="off", silent=True),
    )
    artifact = wandb.Artifact(f"report-{budget}", type="report")
    for part in PARTS:
        path = results / part
        if path.is_file():
            artifact.add_file(str(path), name=part)
        elif path.is_dir():
            artifact.add_dir(str(path), name=part)
    run.log_artifact(artifact)
    run.finish()
