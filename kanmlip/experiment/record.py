"""The record of a finished run: one small JSON made of the run folder's files, which is all that tables read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kanmlip.errors import ConfigError
from kanmlip.evaluation.structure_errors import structure_errors
from kanmlip.experiment.atomic import read_json, write_json
from kanmlip.experiment.config import RunConfig
from kanmlip.experiment.folders import record_path
from kanmlip.experiment.identity import RECORD_SCHEMA_VERSION
from kanmlip.experiment.validation import load_run_config
from kanmlip.training.history import condense, read_history

# The form of the file; the version of what runs compute, which their names contain, is another. 1 had neither structures nor history.
RECORD_FORM = 2
ENVIRONMENT_KEYS = (
    "commit", "dirty", "hardware", "device", "devices", "threads", "versions", "dataset_sha256", "driver", "started", "finished",
    "earlier_commits", "runs_at_once", "shared",
)  # fmt: skip


def write_record(run_dir: Path) -> Path:
    """Write ``results/records/<run_id>.json`` from a finished run folder.

    ``structures`` holds the errors of each validation and test structure (:func:`kanmlip.evaluation.structure_errors.structure_errors`),
    ``history`` the course of validation (:func:`kanmlip.training.history.condense`); each is null where the folder lacks its file.

    Raises:
        ConfigError: If a file of the folder is missing.
    """
    parts = {name: read_json(run_dir / f"{name}.json") for name in ("metrics", "environment", "placement")}
    absent = [f"{name}.json" for name, content in parts.items() if not isinstance(content, dict)]
    if absent:
        raise ConfigError(f"{run_dir} is no finished run: {', '.join(absent)} missing or broken; run it again with force=true")
    config, environment = load_run_config(run_dir), parts["environment"]
    record = {
        "schema_version": RECORD_FORM,
        "science_version": RECORD_SCHEMA_VERSION,
        "run_id": run_dir.name,
        "status": "done",
        "labels": labels(config),
        "config": config.science(),
        "metrics": parts["metrics"],
        "environment": {key: environment.get(key) for key in ENVIRONMENT_KEYS},
        "data": environment.get("data"),
        "placement": parts["placement"],
        "structures": _structures(run_dir / "predictions.npz"),
        "history": _history(run_dir / "history.csv", parts["metrics"]),
    }
    path = record_path(run_dir.name)
    write_json(path, record)
    return path


def _structures(path: Path) -> dict[str, dict[str, str]] | None:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return structure_errors({name: stored[name] for name in stored.files})
    except FileNotFoundError:
        return None


def _history(path: Path, metrics: dict[str, Any]) -> dict[str, str] | None:
    rows = read_history(path)
    if not rows:
        return None
    return condense(rows, updates_per_epoch=round(metrics["time/updates"] / metrics["time/epochs"]))


def labels(config: RunConfig) -> dict[str, Any]:
    """What a run is, in the words of the config groups; the basis is none where there is no KAN."""
    return {
        "model": config.model.name,
        "placement": config.placement.name,
        "basis": config.basis_name,
        "dataset": config.dataset.name,
        "budget": config.budget.name,
        "seed": config.seed,
    }


def has_record(run_id: str) -> bool:
    """Whether the record of a run is there and whole."""
    record = read_json(record_path(run_id))
    return isinstance(record, dict) and record.get("run_id") == run_id and isinstance(record.get("metrics"), dict)


def is_complete(run_dir: Path) -> bool:
    """Whether a folder that says it is done has what a finished run leaves."""
    return all(isinstance(read_json(run_dir / f"{name}.json"), dict) for name in ("metrics", "environment", "placement"))
