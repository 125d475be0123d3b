"""Rules between the sections of a configuration: pairs that cannot work are refused before anything is built."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kanmlip.data.labels import LABELS, TENSOR_LABELS
from kanmlip.errors import ConfigError, describe_choice
from kanmlip.experiment.folders import conf_dir
from kanmlip.placement.config import PlacementConfig
from kanmlip.schema import locate
from kanmlip.training.config import DEFAULT_WEIGHTS
from kanmlip.yaml_file import read_mapping

if TYPE_CHECKING:
    from kanmlip.experiment.config import RunConfig
    from kanmlip.training.config import LossConfig

# Validation metrics a schedule or early stopping can follow, with the label each needs.
VALIDATION_METRICS = {
    "val/energy_mae_eV_per_atom": "energy",
    "val/energy_mae_eV_per_cell": "energy",
    "val/energy_rmse_meV_per_atom": "energy",
    "val/force_mae_eV_per_A": "forces",
    "val/force_rmse_meV_per_A": "forces",
    "val/stress_mae_meV_per_A3": "stress",
    "val/stress_rmse_meV_per_A3": "stress",
    **{f"val/{label.key(statistic)}": label.name for label in TENSOR_LABELS for statistic in ("mae", "rmse")},
}
# What trainer.monitor=auto stands for: of the labels that a run learns, the first one's metric.
MONITORS = {
    "forces": "val/force_mae_eV_per_A",
    "energy": "val/energy_mae_eV_per_atom",
    "stress": "val/stress_mae_meV_per_A3",
    **{label.name: f"val/{label.key('mae')}" for label in TENSOR_LABELS},
}
AUTO = "auto"


def check_rules(config: RunConfig) -> None:
    """Check what no section can check alone.

    Raises:
        ConfigError: Naming the keys, their values and the way out.
    """
    _check_names(config)
    _check_placement(config)
    _check_labels(config)
    _check_loss(config)
    _check_monitor(config)


def _check_names(config: RunConfig) -> None:
    """A name stands for a class in run ids and tables: that of one of ours is not free for another."""
    for group, name, found in (
        ("model", config.model.name, type(config.model)),
        ("basis", config.basis.name, locate(config.basis.target, "basis")),
    ):
        path = Path(conf_dir() / group / f"{name}.yaml")
        own = read_mapping(path, ("_target_",))["_target_"] if path.is_file() else None
        if own is not None and locate(own, group) is not found:
            raise ConfigError(
                f"{group}.name={name} is the name of {own}, but {group}._target_ is {found.__module__}.{found.__qualname__}; "
                f"give it a name of its own: {group}.name=<name>"
            )


def _check_placement(config: RunConfig) -> None:
    if config.model.name != "mace" and config.placement.mace_style != PlacementConfig.model_fields["mace_style"].default:
        raise ConfigError(f"placement.mace_style={config.placement.mace_style} is for model=mace, not {config.model.name}; leave it out")
    if config.placement.name not in config.model.placements:
        raise ConfigError(f"model={config.model.name}: " + describe_choice("placement", config.placement.name, config.model.placements))


def _check_labels(config: RunConfig) -> None:
    predicts, provides = config.model.predicts, config.dataset.provides
    if predicts & provides:
        return
    fitting = sorted(name for name, labels in _declared("model", "predicts").items() if labels & provides)
    raise ConfigError(
        f"model={config.model.name} dataset={config.dataset.name} is an impossible pair: {config.model.name} predicts "
        f"{_listed(predicts)}, but {config.dataset.name} provides {_listed(provides)}; "
        f"models for dataset={config.dataset.name}: {', '.join(fitting) or '(none)'}"
    )


def _check_loss(config: RunConfig) -> None:
    predicts, provides = config.model.predicts, config.dataset.provides
    weights = loss_weights(config.trainer.loss)
    for label, weight in weights.items():
        if weight == 0 or label in predicts & provides:
            continue
        if label in predicts:
            owner = f"dataset={config.dataset.name} provides {_listed(provides)}"
        elif weight != DEFAULT_WEIGHTS[label]:
            owner = f"model={config.model.name} predicts {_listed(predicts)}"
        else:
            continue
        raise ConfigError(f"trainer.loss.{label}={weight:g} needs {label}, but {owner}; set trainer.loss.{label}=0")
    if not any(weights.get(label, 0.0) for label in predicts):
        zeros = " ".join(f"trainer.loss.{label}=0" for label in weights if label in predicts)
        raise ConfigError(f"{zeros} leaves nothing to learn; give one a positive weight")


def loss_weights(loss: LossConfig) -> dict[str, float]:
    """Label → its weight, of every label there is."""
    return {label: float(getattr(loss, label)) for label in LABELS}


def _check_monitor(config: RunConfig) -> None:
    monitor, usable = config.trainer.monitor, config.model.predicts & config.dataset.provides
    choices = [metric for metric, label in VALIDATION_METRICS.items() if label in usable]
    if monitor not in (AUTO, *choices):
        raise ConfigError(describe_choice("trainer.monitor", monitor, [AUTO, *choices]))


def _declared(group: str, attribute: str) -> dict[str, frozenset[str]]:
    """What every class named in a configuration group declares; files whose class cannot be imported are left out."""
    found = {}
    for path in sorted(Path(conf_dir() / group).glob("*.yaml")):
        try:
            found[path.stem] = getattr(locate(read_mapping(path, ("_target_",))["_target_"], group), attribute)
        except (ConfigError, AttributeError, KeyError, TypeError):
            continue
    return found


def _listed(labels: frozenset[str]) -> str:
    return ", ".join(sorted(labels)) or "nothing"
