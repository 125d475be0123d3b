"""The MLP's run beside a KAN's: the same settings, data and seed, with nothing replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kanmlip.errors import ConfigError
from kanmlip.experiment.atomic import read_json
from kanmlip.experiment.config import RunConfig
from kanmlip.experiment.status import true_status
from kanmlip.experiment.validation import load_run_config


def find_counterpart(folder: Path, config: RunConfig) -> Path | None:
    """The finished MLP run in the folder beside a run, none for a run that is one itself.

    Raises:
        ConfigError: If there is none, with the command that makes it.
    """
    if config.basis_name is None:
        return None
    wanted, data = settings_without_head(config), data_checksum(folder)
    for candidate in sorted(folder.parent.glob(f"{config.model.name}-none-mlp-{config.dataset.name}-s{config.seed}-*")):
        status = true_status(candidate)
        if status is None or status.status != "done" or data_checksum(candidate) != data:
            continue
        try:
            if settings_without_head(load_run_config(candidate)) == wanted:
                return candidate
        except ConfigError:  # of another version of kanmlip
            continue
    raise ConfigError(
        f"no finished MLP run with the settings of {folder.name} lies beside it; train one with the same command and placement=none, "
        f"or name one with --mlp"
    )


def settings_without_head(config: RunConfig) -> dict[str, Any]:
    """What two runs that differ in their heads alone have in common."""
    return {key: value for key, value in config.science().items() if key not in ("placement", "basis")}


def data_checksum(folder: Path) -> str | None:
    """Of the data that a run was trained on."""
    environment: dict[str, Any] = read_json(folder / "environment.json") or {}
    checksum = environment.get("dataset_sha256")
    return None if checksum is None else str(checksum)
