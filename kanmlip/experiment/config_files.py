"""Hydra's search for configuration files, with errors of ours for files that are broken."""

from __future__ import annotations

from pathlib import Path

from hydra._internal.config_repository import ConfigRepository
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from omegaconf import DictConfig, ListConfig
from omegaconf.errors import OmegaConfBaseException

from kanmlip.errors import ConfigError
from kanmlip.yaml_file import CORRECT_IT, FAULTS, describe_fault, described, read_mapping


class ConfigFiles(FileConfigSource):  # type: ignore[misc]  # hydra has no types
    """A folder of configuration files. Hydra shows what is wrong with one of them as a traceback, if need be without its name."""

    def load_config(self, config_path: str) -> ConfigResult:
        """Read one file of the folder.

        Args:
            config_path: Path in the folder, with or without ``.yaml``.

        Raises:
            ConfigError: If it cannot be read, is no YAML, holds no mapping, or its header or list of defaults has the wrong form.
        """
        path = Path(self.path) / self._normalize_file_name(config_path)
        try:
            result = super().load_config(config_path)
        except ConfigLoadError:
            raise
        except FAULTS as error:
            if isinstance(error, OSError) and error.errno is None:  # OmegaConf's, for a file that holds a number and the like
                read_mapping(path)
            raise ConfigError(describe_fault(error, path)) from error
        except (OmegaConfBaseException, ValueError) as error:
            raise ConfigError(f"{path}: {str(error).splitlines()[0]}; {CORRECT_IT}") from error
        if not isinstance(result.config, DictConfig):
            raise ConfigError(f"{path} holds {described(list(result.config))}, not lines of key: value; {CORRECT_IT}")
        defaults = result.config._get_node("defaults")
        if defaults is not None and not isinstance(defaults, ListConfig):
            raise ConfigError(f"{path}: defaults must be a list such as [{{dataset: ag}}, _self_]; {CORRECT_IT}")
        return result


class ConfigFolders(ConfigRepository):  # type: ignore[misc]
    """Hydra's search path, with its folders read through :class:`ConfigFiles`."""

    sources: list[ConfigSource]

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        """See Hydra's; called again where ``hydra.searchpath`` adds folders."""
        super().initialize_sources(config_search_path)
        # By scheme: Hydra loads its plug-ins a second time, so that its class is not the one imported here.
        self.sources = [
            ConfigFiles(provider=source.provider, path=source.path) if source.scheme() == "file" else source for source in self.sources
        ]
