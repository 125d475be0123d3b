"""From plain data, as Hydra composes it or a run folder stores it, to a RunConfig, with every fault in readable lines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from kanmlip.data.base import DatasetConfig
from kanmlip.errors import ConfigError
from kanmlip.experiment.adaptation import adapt
from kanmlip.experiment.basis import basis_config
from kanmlip.experiment.config import BudgetConfig, RunConfig, RunOptions
from kanmlip.experiment.messages import describe_faults, describe_key
from kanmlip.experiment.rules import check_rules
from kanmlip.models.base import ModelConfig
from kanmlip.placement.config import PlacementConfig
from kanmlip.schema import Schema, locate
from kanmlip.training.config import TrainerConfig
from kanmlip.training.loggers import LoggerConfig
from kanmlip.yaml_file import read_mapping

Settings = TypeVar("Settings", bound=Schema)

# Tables that other fields are interpolated from; they are no settings themselves.
LOOKUP_TABLES = frozenset({"sizes", "frames"})


def validate_run(plain: Mapping[str, Any]) -> RunConfig:
    """Check every section and the rules between them.

    Args:
        plain: The eight sections of a RunConfig, resolved; nothing else.

    Raises:
        ConfigError: One line a fault, each with its dotted key.
    """
    known = set(RunConfig.model_fields)
    for key in plain:
        if key not in known:
            raise ConfigError(describe_key(key, _short(plain[key]), known))
    missing = sorted(known - set(plain))
    if missing:
        raise ConfigError(f"{missing[0]} is missing; choose one: {missing[0]}=<value>")
    basis = _section(plain, "basis")
    sections: dict[str, Any] = {
        "model": _plug_in(_section(plain, "model"), "model", ModelConfig),
        "placement": validate_section(PlacementConfig, _section(plain, "placement"), "placement"),
        "basis": basis_config(_take(basis, "_target_"), _take(basis, "name"), basis),
        "dataset": _plug_in(_section(plain, "dataset"), "dataset", DatasetConfig),
        "budget": validate_section(BudgetConfig, _section(plain, "budget"), "budget"),
        "trainer": validate_section(TrainerConfig, _section(plain, "trainer"), "trainer"),
        "logger": validate_section(LoggerConfig, _section(plain, "logger"), "logger"),
    }
    try:
        config = RunConfig(seed=plain["seed"], **sections)
    except ValidationError as error:
        raise ConfigError(describe_faults(error, "", RunConfig)) from error
    check_rules(config)
    return adapt(config)


def validate_options(plain: Mapping[str, Any]) -> RunOptions:
    """Check how a run is to be started.

    Raises:
        ConfigError: One line a fault.
    """
    try:
        return RunOptions.model_validate(dict(plain))
    except ValidationError as error:
        raise ConfigError(describe_faults(error, "", RunOptions)) from error


def load_run_config(run_dir: Path) -> RunConfig:
    """The settings of a run folder.

    Raises:
        ConfigError: If its ``config.yaml`` is missing or does not fit this version of kanmlip.
    """
    path = run_dir / "config.yaml"
    plain = read_mapping(path, way_out="train the run again with force=true, or name another run")
    if not plain:
        raise ConfigError(f"{path} holds no settings; train the run again with force=true, or name another run")
    return validate_run(plain)


def validate_section(schema: type[Settings], plain: Mapping[str, Any], section: str) -> Settings:
    """Check one section against its class.

    Raises:
        ConfigError: One line a fault.
    """
    try:
        return schema.model_validate(dict(plain))
    except ValidationError as error:
        raise ConfigError(describe_faults(error, section, schema)) from error


def _section(plain: Mapping[str, Any], key: str) -> dict[str, Any]:
    content = plain[key]
    if not isinstance(content, Mapping):
        raise ConfigError(f"{key}={content} is not a section; choose a file of the group {key}, or leave it out")
    return {name: value for name, value in content.items() if name not in LOOKUP_TABLES}


def _plug_in(plain: dict[str, Any], section: str, base: type[Schema]) -> Schema:
    target = _take(plain, "_target_", section)
    schema = locate(target, section)
    if not (isinstance(schema, type) and issubclass(schema, base)):
        raise ConfigError(f"{section}._target_={target} is not a subclass of {base.__module__}.{base.__name__}")
    checked: Schema = validate_section(schema, plain, section)
    return checked


def _take(plain: dict[str, Any], name: str, section: str = "basis") -> str:
    if not isinstance(plain.get(name), str):
        raise ConfigError(f"{section}.{name} is missing; every file of the group {section} has one")
    return str(plain.pop(name))


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."
