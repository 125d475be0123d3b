"""The base of every typed configuration object, and loading of ``_target_`` plug-ins by dotted name."""

from __future__ import annotations

import importlib
from typing import Any

from pydantic import BaseModel, ConfigDict

from kanmlip.errors import ConfigError


class Schema(BaseModel):
    """Immutable, typed settings of finite numbers; an unknown key is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=False, allow_inf_nan=False)


def locate(target: str, key: str) -> Any:
    """Import the object a ``_target_`` names.

    Args:
        target: Dotted path such as ``kanmlip.models.allegro.Allegro``.
        key: Dotted config key that holds it, for the error.

    Raises:
        ConfigError: If the module or the attribute does not exist.
    """
    module_name, _, attribute = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{key}._target_={target} cannot be imported: {error}") from error
