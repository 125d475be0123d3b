"""Predictions of a potential on labelled structures, and the metrics that tables print."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kanmlip.evaluation.assessment import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]


def __getattr__(name: str) -> Any:
    # Settings are validated without torch; what needs it is imported when it is used.
    if name in __all__:
        return getattr(import_module("kanmlip.evaluation.assessment"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
