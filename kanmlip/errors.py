"""The exceptions kanmlip raises on purpose: each names the key, the value, the choices and the way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class KanmlipError(Exception):
    """Base of every exception raised on purpose; the message is complete without a traceback."""

    exit_code = 1


class ConfigError(KanmlipError):
    """A configuration that cannot be run as it stands; nothing was started."""

    exit_code = 2


class DataError(KanmlipError):
    """A dataset that is missing, unreadable, or holds labels that must not be trained on."""

    exit_code = 2


class MissingDependencyError(KanmlipError):
    """An optional upstream package that the chosen model or tool needs is not installed."""

    exit_code = 2


class DivergenceError(KanmlipError):
    """A training run whose loss became NaN or infinite."""


class OutOfMemoryError(KanmlipError):
    """Memory that does not suffice for a batch; the message says which setting to lower, and to what."""


class LostProcessError(KanmlipError):
    """One of the processes of a run is gone; the run can be resumed."""


def describe_choice(key: str, value: object, choices: Iterable[str]) -> str:
    """Say that ``value`` is no choice for ``key``, list the choices and name the nearest one.

    Args:
        key: Dotted config key or other name the user typed the value under.
        value: What the user typed.
        choices: Every accepted value.

    Returns:
        One line of text for an exception of ours.
    """
    known = sorted(choices)
    nearest = difflib.get_close_matches(str(value), known, n=1, cutoff=0.5)
    hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
    return f"{key}={value!s} is not known; choose from: {', '.join(known) or '(nothing)'}.{hint}"
