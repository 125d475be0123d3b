"""The record of a finished run: one small JSON made of the run folder's files, which is all that tables read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kanmlip.errors import ConfigError
from kanmlip.experiment.atomic import read_json, write_json
from kanmlip.experiment.config import RunConfig
from kanmlip.experiment.folders import record_path
from kanmlip.experiment.identity import RECORD_SCHEMA_VERSION
from kanmlip.experiment.validation import load_run_config

ENVIRONMENT_KEYS = (
    "commit", "dirty", "hardware", "device", "threads", "versions", "dataset_sha256", "driver", "started", "finished", "earlier_commits",
)  # fmt: skip


def write_record(run_dir: Path) -> Path:
    """Write ``results/records/<run_id>.json`` from a finished run folder.

    Raises:
        ConfigError: If a file of the folder is missing.
    """
    parts = {name: read_json(run_dir / f"{name}.json") for name in ("metrics", "environment", "placement")}
    absent = [f"{name}.json" for name, content in parts.items() if not isinstance(content, dict)]
    if absent:
        raise ConfigError(f"{run_dir} is no finished run: {', '.join(absent)} missing or broken; run it again with force=true")
    config, environment = load_run_config(run_dir), parts["environment"]
    record = {
        "schema_version": RECORD_SCHEMA_VERSION,
        "run_id": run_dir.name,
        "status": "done",
        "labels": labels(config),
        "config": config.science(),
        "metrics": parts["metrics"],
        "environment": {key: environment.get(key) for key in ENVIRONMENT_KEYS},
        "data": environment.get("data"),
        "placement": parts["placement"],
    }
    path = record_path(run_dir.name)
    write_json(path, record)
    return path


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
