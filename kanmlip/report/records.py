"""Reading what runs left behind: finished records, and the status of runs that have none."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kanmlip.experiment.status import true_status

# What this reader understands; kanmlip.experiment writes the version into each record.
READABLE_SCHEMA_VERSIONS = frozenset({1, 2})
TIMINGS = ("time/train_s", "time/per_epoch_s", "time/to_target_s")
# What several processes of a run divide among themselves.
DIVIDED = (*TIMINGS, "memory/peak_allocated_MB")


class _Part(BaseModel):
    """A part of a record; unknown keys are left alone, so that a newer writer may add some."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Labels(_Part):
    """What a run is, in the words of the config groups."""

    model: str
    placement: str
    basis: str | None = None
    dataset: str
    budget: str
    seed: int


class Environment(_Part):
    """Where and from which code a run was made."""

    commit: str | None = None
    dirty: bool | None = None
    hardware: str | None = None
    device: str | None = None
    threads: int | None = None
    versions: dict[str, str | None] = {}
    dataset_sha256: str | None = None
    finished: str | None = None
    earlier_commits: tuple[str, ...] = ()
    devices: int | None = None
    runs_at_once: int | None = None
    shared: bool | None = None


class DataUsed(_Part):
    """Which frames a run was trained and tested on."""

    label: str = "unnamed data"
    stand_in: bool = False
    subset: str | None = None
    n_train: int | None = None
    n_val: int | None = None
    n_test: int | None = None


class Record(_Part):
    """One run record, results/records/<run_id>.json.

    ``structures`` and ``history`` are None in records of schema version 1, which had neither.
    """

    schema_version: int
    science_version: int = 1
    run_id: str = Field(min_length=1)
    status: str = "done"
    labels: Labels
    config: dict[str, Any]
    metrics: dict[str, Any] = {}
    environment: Environment = Environment()
    data: DataUsed = DataUsed()
    structures: dict[str, dict[str, str]] | None = None
    history: dict[str, str] | None = None

    def value(self, metric: str) -> float | None:
        """A finite metric in the record's unit; None where it is absent, null, not finite, or :meth:`spoilt_by` how the run was made."""
        if self.spoilt_by(metric) is not None:
            return None
        value = self.metrics.get(metric)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return None
        return float(value)

    def spoilt_by(self, metric: str) -> str | None:
        """Why a cost does not say what the model costs: other runs took time from the run, or several processes divided its work."""
        if self.environment.shared and metric.endswith(TIMINGS):
            return "made while sharing the device"
        if (self.environment.devices or 1) > 1 and metric in DIVIDED:
            return f"made by {self.environment.devices} processes together"
        return None

    @property
    def out_of_time(self) -> bool:
        """Whether ``trainer.max_minutes`` ended the run, after as many updates as its machine made until then."""
        trainer = self.config.get("trainer", {})
        patient = trainer.get("early_stopping", {}).get("patience") is None
        ended = self.metrics.get("time/epochs", 0) < trainer.get("max_epochs", 0)
        return trainer.get("max_minutes") is not None and patient and ended


@dataclass(frozen=True)
class Unfinished:
    """A run without a finished record: what it was, its settings and how it ended."""

    run_id: str
    labels: Labels
    status: str
    config: dict[str, Any]


@dataclass(frozen=True)
class Evidence:
    """Everything tables are made of.

    Attributes:
        records: Finished runs, sorted by run id.
        unfinished: Runs that failed, were interrupted or are under way, sorted by run id.
        warnings: One line for each file that could not be used.
        runs_known: Whether there is a runs folder, so that "no run" can be told from "no record".
    """

    records: tuple[Record, ...]
    unfinished: tuple[Unfinished, ...] = ()
    warnings: tuple[str, ...] = ()
    runs_known: bool = False


def read_evidence(results: Path) -> Evidence:
    """Read ``results/records/*.json`` and, where there is one, ``results/runs/*/status.json``.

    Args:
        results: The results root; it need not exist.

    Returns:
        What was found. A corrupt file becomes a named warning, never an exception.
    """
    warnings: list[str] = []
    records: dict[str, Record] = {}
    for path in sorted((results / "records").glob("*.json")):
        record = _read_record(path, warnings)
        if record is not None and record.run_id in records:
            warnings.append(f"records/{path.name}: run {record.run_id} is already given by another file; this one is not used")
        elif record is not None:
            records[record.run_id] = record
    done = {name: record for name, record in records.items() if record.status == "done"}
    unfinished = {
        name: Unfinished(name, record.labels, record.status, record.config) for name, record in records.items() if name not in done
    }
    runs = results / "runs"
    for path in sorted(runs.glob("*/status.json")):
        if path.parent.name not in done:
            run = _read_run(path, warnings)
            if run is not None:
                unfinished[run.run_id] = run
    ordered = tuple(unfinished[name] for name in sorted(unfinished))
    return Evidence(tuple(done[name] for name in sorted(done)), ordered, tuple(warnings), runs.is_dir())


def _read_record(path: Path, warnings: list[str]) -> Record | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.get("schema_version") not in READABLE_SCHEMA_VERSIONS:
            known = ", ".join(map(str, sorted(READABLE_SCHEMA_VERSIONS)))
            warnings.append(
                f"records/{path.name}: schema_version {content.get('schema_version')} is not known here (known: {known}); not used"
            )
            return None
        return Record.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        warnings.append(f"records/{path.name}: not a run record ({'.'.join(map(str, fault['loc'])) or 'top'}: {fault['msg']}); not used")
    except (OSError, ValueError, RecursionError) as error:
        warnings.append(f"records/{path.name}: unreadable ({_first_line(error)}); not used")
    return None


def _read_run(path: Path, warnings: list[str]) -> Unfinished | None:
    """A run folder's name holds its labels but for the budget, which its config.yaml holds; a run whose process is gone is interrupted."""
    run_id = path.parent.name
    parts = run_id.split("-")
    try:
        status = true_status(path.parent)
        if status is None:
            raise ValueError("status.json is broken")
        config = yaml.safe_load((path.parent / "config.yaml").read_text(encoding="utf-8"))
        model, placement, basis, dataset, seed, _ = parts
        labels = Labels(
            model=model,
            placement=placement,
            basis=None if basis == "mlp" else basis,
            dataset=dataset,
            budget=config["budget"]["name"],
            seed=int(seed.removeprefix("s")),
        )
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        warnings.append(f"runs/{run_id}: its status is not readable ({type(error).__name__}: {_first_line(error)}); not used")
        return None
    return Unfinished(run_id, labels, "done, but its record is missing" if status.status == "done" else status.status, config)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
