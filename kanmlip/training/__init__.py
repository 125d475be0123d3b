"""The one trainer: loss, order of the data, weight averaging, checkpoints, history, loggers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kanmlip.training.loop import fit, follow
    from kanmlip.training.result import FitResult

__all__ = ["FitResult", "fit", "follow"]


def __getattr__(name: str) -> Any:
    # Settings are validated without torch; what needs it is imported when it is used.
    if name in __all__:
        return getattr(import_module("kanmlip.training.loop"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
