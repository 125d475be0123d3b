"""Statistics over seeds: mean and sample standard deviation, paired ratios and paired differences."""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)

COVERAGE = 0.95


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n − 1) of n values; ``std`` is None for n = 1."""

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class Ratio:
    """``value`` is the geometric mean of n per-seed ratios, or, where no seed is common, the ratio of the two means (``paired`` False)."""

    value: float
    n: int
    paired: bool


@dataclass(frozen=True)
class Difference:
    """Mean and sample standard deviation of n per-seed differences; ``interval`` covers their median with at least 95 %."""

    mean: float
    std: float | None
    n: int
    interval: tuple[float, float] | None


def spread(values: Sequence[float]) -> Spread | None:
    """Mean and sample standard deviation; None for no values."""
    if not values:
        return None
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def paired_ratio(ours: Mapping[Key, float], baseline: Mapping[Key, float]) -> Ratio | None:
    """Ratio of two sets of values keyed by seed; None where there is nothing to divide or a value is not positive."""
    if not ours or not baseline or min(*ours.values(), *baseline.values()) <= 0:
        return None
    common = [seed for seed in ours if seed in baseline]
    if not common:
        return Ratio(statistics.fmean(ours.values()) / statistics.fmean(baseline.values()), 0, paired=False)
    logarithms = [math.log(ours[seed] / baseline[seed]) for seed in common]
    return Ratio(math.exp(statistics.fmean(logarithms)), len(common), paired=True)


def paired_difference(ours: Mapping[Key, float], baseline: Mapping[Key, float]) -> Difference | None:
    """Differences ours − baseline over the common seeds; None where no seed is common."""
    differences = sorted(ours[seed] - baseline[seed] for seed in ours if seed in baseline)
    summary = spread(differences)
    if summary is None:
        return None
    return Difference(summary.mean, summary.std, summary.n, sign_interval(differences))


def sign_interval(ordered: Sequence[float]) -> tuple[float, float] | None:
    """Distribution-free interval for the median, from the sign test's order statistics.

    [x_(k), x_(n+1−k)] covers the median with probability 1 − 2 P(B < k), B ~ Binomial(n, 1/2); the largest k that keeps
    95 % is taken. Five values reach 93.75 % at best, so six are the fewest that give an interval.

    Args:
        ordered: Values in ascending order.
    """
    n = len(ordered)
    tail, best = 0.0, 0
    for k in range(1, n // 2 + 1):
        tail += math.comb(n, k - 1) / 2**n
        if 1 - 2 * tail >= COVERAGE:
            best = k
    return (ordered[best - 1], ordered[n - best]) if best else None
