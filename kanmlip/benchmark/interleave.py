"""Timings as ratios: contenders take turns within one process, so that a drifting machine drifts for all of them."""

from __future__ import annotations

import math
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
        rounds: Turns of each, 1 or more.
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
    return {name: paired(values, seconds[baseline]) for name, values in seconds.items()}


def paired(seconds: NDArray[np.float64], baseline: NDArray[np.float64]) -> Ratio:
    """The ratio of one contender's seconds [rounds] to another's of the same rounds."""
    within = seconds / baseline
    medians = np.median(np.random.default_rng(0).choice(within, size=(2000, len(within))), axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return Ratio(float(np.median(within)), float(low), float(high), float(np.median(seconds)))


def repeated(call: Callable[[], object], turn_s: float = 0.03) -> Callable[[], float]:
    """A contender that calls so often in a turn that the clock does not matter, and returns the seconds of one call.

    Args:
        call: What to time.
        turn_s: Least length of a turn. A single call that takes longer is made once.
    """
    call()  # whatever is compiled or allocated on first use
    start = time.perf_counter()
    call()
    synchronise()
    times = max(1, math.ceil(turn_s / max(time.perf_counter() - start, 1e-6)))

    def turn() -> float:
        synchronise()
        start = time.perf_counter()
        for _ in range(times):
            call()
        synchronise()
        return (time.perf_counter() - start) / times

    return turn


def synchronise() -> None:
    """Wait for the GPU where one is in use."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
