"""Timings as ratios: contenders take turns within one process, so that a drifting machine drifts for all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True)
class Ratio:
    """Time of a contender over that of the baseline, turn by turn.

    Attributes:
        median: Median over the rounds of the ratio within a round.
        low: Lower end of the interval.
        high: Upper end: a 95 % bootstrap interval of the median over rounds.
        seconds: Median time of one call of the contender.
    """

    median: float
    low: float
    high: float
    seconds: float

    def __str__(self) -> str:
        """``1.23 [1.20, 1.27]``."""
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


def interleave(contenders: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 2) -> dict[str, NDArray[np.float64]]:
    """Time every contender once a round, in an order that is reversed every other round (A/B/B/A).

    Args:
        contenders: Name → what to time. One that returns a float has measured its own seconds, without its set-up.
        rounds: Turns of each.
        warmup: Untimed calls of each before.

    Returns:
        Name → seconds of one call, [rounds].
    """
    for call in contenders.values():
        for _ in range(warmup):
            call()
    names = list(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names if turn % 2 == 0 else reversed(names):
            synchronise()
            start = time.perf_counter()
            own = contenders[name]()
            synchronise()
            seconds[name].append(own if isinstance(own, float) else time.perf_counter() - start)
    return {name: np.array(values) for name, values in seconds.items()}


def ratios(seconds: Mapping[str, NDArray[np.float64]], baseline: str) -> dict[str, Ratio]:
    """Paired ratios of every contender to ``baseline``, with a bootstrap interval over rounds."""
    random = np.random.default_rng(0)
    result = {}
    for name, values in seconds.items():
        paired = values / seconds[baseline]
        medians = np.median(random.choice(paired, size=(2000, len(paired))), axis=1)
        low, high = np.quantile(medians, [0.025, 0.975])
        result[name] = Ratio(float(np.median(paired)), float(low), float(high), float(np.median(values)))
    return result


def synchronise() -> None:
    """Wait for the GPU where one is in use."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
