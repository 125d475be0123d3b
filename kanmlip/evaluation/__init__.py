"""Predictions of a potential on labelled structures, and the metrics that tables print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kanmlip.evaluation.evaluate import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from kanmlip.evaluation import evaluate as module

        return getattr(module, name)
    raise AttributeError(name)
