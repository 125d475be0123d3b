"""Composing configurations with Hydra's own loader, ahead of Hydra, so that every fault becomes one readable message."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobRuntime, setup_globals
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from kanmlip.errors import ConfigError, MissingDependencyError, describe_choice
from kanmlip.experiment.config_files import ConfigFolders
from kanmlip.experiment.messages import describe_key

# Plug-ins that a user may be missing, by the group file they bring.
PLUGIN_PACKAGES = {
    "joblib": "hydra-joblib-launcher",
    "submitit_local": "hydra-submitit-launcher",
    "submitit_slurm": "hydra-submitit-launcher",
    "ray": "hydra-ray-launcher",
    "slurm_gpu": "hydra-submitit-launcher",
    "slurm_cpu": "hydra-submitit-launcher",
    "local": "hydra-submitit-launcher",
    "optuna": "hydra-optuna-sweeper",
}
# Ours that say only what differs from a plug-in's, by the file of the plug-in's that must be there.
EXTENDED = {"slurm_gpu": "submitit_slurm", "slurm_cpu": "submitit_slurm", "local": "submitit_local"}
BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


@dataclass(frozen=True)
class Sources:
    """Where configuration files are looked for.

    Attributes:
        main: Folder of the primary configuration.
        extra: The user's own folder, ``--config-dir``.
        config_name: Name of the primary configuration.
    """

    main: Path
    extra: Path | None = None
    config_name: str = "config"


class Composer:
    """Hydra's configuration loader with our messages. It starts nothing and writes nothing."""

    def __init__(self, sources: Sources) -> None:
        setup_globals()
        if not JobRuntime.instance().conf.get("name"):
            JobRuntime.instance().set("name", "train")
        for folder in filter(None, (sources.main, sources.extra)):
            if not folder.is_dir():
                raise ConfigError(f"the configuration folder {folder} does not exist; check --config-dir and --config-path")
        search_path = create_config_search_path(str(sources.main.resolve()))
        if sources.extra is not None:
            folder = sources.extra.resolve()
            search_path.prepend(provider="command-line", path=f"file://{folder}", anchor=SearchPathQuery(provider="schema"))
        self.loader = ConfigLoaderImpl(config_search_path=search_path)
        self.loader.repository = ConfigFolders(config_search_path=search_path)
        self.config_name = sources.config_name

    def parse(self, arguments: Sequence[str]) -> list[Override]:
        """Read ``key=value`` arguments and check group names, choices and values that Hydra could not place.

        Raises:
            ConfigError: Naming the argument.
        """
        parser = OverridesParser.create(config_loader=self.loader)
        overrides = []
        for argument in arguments:
            try:
                overrides.append(parser.parse_override(argument))
            except (OverrideParseException, HydraException) as error:
                reason = str(error).splitlines()[0]
                raise ConfigError(f"cannot read the argument '{argument}' ({reason}); write key=value, key=[a,b] for lists") from error
        for override in overrides:
            self._check_choices(override)
        return overrides

    def expand(self, overrides: Sequence[Override], hydra: DictConfig) -> list[list[str]] | None:
        """The arguments of every job of a sweep, as Hydra's basic sweeper will make them.

        Args:
            overrides: All arguments.
            hydra: The composed ``hydra`` node; its ``sweeper.params`` take part.

        Returns:
            Per job its arguments, those for Hydra itself left out; none for a sweeper that chooses jobs as it goes.

        Raises:
            ConfigError: For a kind of sweep that the basic sweeper does not know.
            MissingDependencyError: If the sweeper's package is not installed.
        """
        sweeper = str(OmegaConf.select(hydra, "sweeper._target_"))
        if sweeper != BASIC_SWEEPER:
            require_sweeper(sweeper)
            return None
        params = OmegaConf.select(hydra, "sweeper.params") or {}
        configured = self.parse([f"{key}={value}" for key, value in params.items()])
        task = [override for override in overrides if not override.is_hydra_override()]
        try:
            return [list(job) for batch in BasicSweeper.split_arguments([*configured, *task], None) for job in batch]
        except HydraException as error:
            raise ConfigError(str(error)) from error

    def compose(self, arguments: Sequence[str], run_mode: RunMode = RunMode.RUN) -> DictConfig:
        """Compose one configuration, its ``hydra`` node included.

        Raises:
            ConfigError: For an unknown key, a value Hydra refuses, or a file that it cannot find or read.
        """
        try:
            config: DictConfig = self.loader.load_configuration(self.config_name, list(arguments), run_mode)
            return config
        except (HydraException, OmegaConfBaseException) as error:
            self._explain_keys(arguments)
            cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
            raise ConfigError(_one_line(cause)) from error
        except ValueError as error:  # of a list of defaults, whose file Hydra names
            raise ConfigError(f"{_one_line(error)}; correct the file") from error

    def _check_choices(self, override: Override) -> None:
        key = override.key_or_group
        if override.is_delete() or not self._is_group(key):
            return
        options = self.loader.get_group_options(key)
        values = override.sweep_iterator() if override.is_discrete_sweep() else [override.value()]
        for value in values:
            if key == "hydra/launcher" and str(value) in EXTENDED and EXTENDED[str(value)] not in options:
                raise MissingDependencyError(f"{key}={value} needs a package: pip install {PLUGIN_PACKAGES[str(value)]}")
            if str(value) in options:
                continue
            if value is None:
                raise ConfigError(describe_choice(key, "null", options))
            if not isinstance(value, str | int | float):
                raise ConfigError(
                    f"{key}={override.get_value_element_as_str()}: choose one file of the group: {', '.join(sorted(options))}"
                )
            package = PLUGIN_PACKAGES.get(str(value)) if key.startswith("hydra/") else None
            hint = f" To get it: pip install {package}" if package else ""
            raise ConfigError(describe_choice(key, value, options) + hint)

    def _is_group(self, key: str) -> bool:
        parent, _, name = key.rpartition("/")
        return name in self.loader.list_groups(parent)

    def _explain_keys(self, arguments: Sequence[str]) -> None:
        """Find the argument whose key does not exist, given the groups that the others choose."""
        overrides = self.parse(arguments)
        chosen = [o.input_line or "" for o in overrides if self._is_group(o.key_or_group)]
        try:
            base = OmegaConf.to_container(self.loader.load_configuration(self.config_name, chosen, RunMode.RUN), resolve=False)
        except (HydraException, OmegaConfBaseException):
            return
        for override in overrides:
            key = override.key_or_group
            if self._is_group(key) or override.is_add() or override.is_force_add():
                continue
            self._walk(base, key, (override.input_line or "").partition("=")[2])

    def _walk(self, base: Any, key: str, value: str) -> None:
        place, parts = base, key.split(".")
        for depth, part in enumerate(parts):
            prefix = "".join(f"{p}." for p in parts[:depth])
            if not isinstance(place, dict):
                raise ConfigError(f"{key}={value}: '{prefix[:-1]}' is a value, not a section; set it as {prefix[:-1]}=<value>")
            if part not in place:
                known: Iterable[str] = [f"{prefix}{name}" for name in place if name not in ("_target_", "sizes", "frames", "hydra")]
                if depth == 0:
                    known = {*known, *self.loader.list_groups("")} - {"hydra"}
                raise ConfigError(describe_key(key if depth == len(parts) - 1 else f"{prefix}{part}", value, known))
            place = place[part]


def require_sweeper(target: str) -> None:
    """Check that a sweeper's package is installed, which Hydra would say in a traceback.

    Raises:
        MissingDependencyError: With the command that installs it.
    """
    try:
        found = find_spec(target.rpartition(".")[0]) is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        package = next((package for name, package in PLUGIN_PACKAGES.items() if name in target), target.partition(".")[0])
        raise MissingDependencyError(f"hydra.sweeper._target_={target} is not installed; run: pip install {package}")


def refuse_lists(overrides: Iterable[Override]) -> None:
    """Refuse several values for one key where no sweep was asked for.

    Raises:
        ConfigError: Naming the key and ``-m``.
    """
    for override in overrides:
        if override.is_sweep_override():
            raise ConfigError(f"{override.input_line} names several values; add -m to run each of them")


def resolve(config: DictConfig) -> dict[str, Any]:
    """The configuration without Hydra's own node as plain data, interpolations looked up.

    Raises:
        ConfigError: For a value that must be given, a size without a column, or another interpolation that leads nowhere.
    """
    task = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    OmegaConf.set_struct(task, False)
    size = OmegaConf.select(task, "budget.size")
    for section, table in (("model", "sizes"), ("dataset", "frames")):
        columns = OmegaConf.select(task, f"{section}.{table}")
        if columns is not None and size not in columns:
            raise ConfigError(
                describe_choice("budget.size", size, [str(column) for column in columns]) + f" (columns of {section}.{table})"
            )
    try:
        plain = OmegaConf.to_container(task, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key} must be given: {error.full_key}=<value>") from error
    except OmegaConfBaseException as error:
        raise ConfigError(_one_line(error)) from error
    return {str(key): value for key, value in plain.items()} if isinstance(plain, dict) else {}


def _one_line(error: BaseException) -> str:
    """The lines of a Hydra or OmegaConf message that say something, joined, with its key first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    key = getattr(error, "full_key", None)
    wanted = [line for line in lines if not line.startswith(("full_key:", "object_type=", "reference_type="))]
    text = " ".join(wanted) or type(error).__name__
    return f"{key}: {text}" if key else text
