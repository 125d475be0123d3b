"""The one trainer: loss, order of the data, weight averaging, checkpoints, history, loggers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kanmlip.training.fit import FitResult, fit

__all__ = ["FitResult", "fit"]


def __getattr__(name: str) -> Any:
    # Settings are validated without torch; the loop is imported when it is used.
    if name in __all__:
        from kanmlip.training import fit as module

        return getattr(module, name)
    raise AttributeError(name)
