"""Intervals by a paired bootstrap over seeds and structures, the same on every machine up to rounding in the last digits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from kanmlip.report.paired import COVERAGE

Array = NDArray[np.float64]

DRAWS = 5000
SEED = 20241117
# Seeds below which percentiles, which never leave the range of the seeds' own values, cover far less than 95 % (two seeds: half).
PERCENTILES_FROM = 6
CHUNK = 500  # draws at a time: 1,000 structures of these take 4 MB


@dataclass(frozen=True)
class Sums:
    """A metric as √ or identity of Σ numerator / Σ denominator over structures.

    Attributes:
        numerator: [seeds, structures].
        denominator: [seeds, structures].
        root: Whether the metric is the square root.
    """

    numerator: Array
    denominator: Array
    root: bool

    def value(self, weights: Array) -> Array:
        """The metric with structures counted ``weights`` [draws, structures] times: [draws, seeds]."""
        mean = (weights @ self.numerator.T) / (weights @ self.denominator.T)
        return np.sqrt(mean) if self.root else mean


def draw_log_ratios(ours: Sums, theirs: Sums, stream: int = 0) -> Array:
    """Bootstrap draws of the mean over seeds of ln(ours / theirs), [DRAWS].

    Seeds are drawn in pairs: a run of ours comes with the run of theirs of the same seed. Structures are drawn in common: all
    runs are measured on the same ones.

    Args:
        ours: The first row.
        theirs: The second, for the same seeds and structures in the same order.
        stream: Different numbers give independent draws.
    """
    rng = np.random.default_rng([SEED, stream])
    seeds, structures = ours.numerator.shape
    draws = []
    for start in range(0, DRAWS, CHUNK):
        count = min(CHUNK, DRAWS - start)
        weights = rng.multinomial(structures, np.full(structures, 1 / structures), size=count).astype(np.float64)
        logs = np.log(ours.value(weights) / theirs.value(weights))
        chosen = rng.integers(seeds, size=(count, seeds))
        draws.append(np.take_along_axis(logs, chosen, axis=1).mean(1))
    return np.concatenate(draws)


def draw_means(values: Array, stream: int = 0) -> Array:
    """Bootstrap draws of a mean over seeds [seeds] alone: [DRAWS]."""
    rng = np.random.default_rng([SEED, stream])
    return np.asarray(values[rng.integers(len(values), size=(DRAWS, len(values)))].mean(1))


def draw_normal(middle: float, low: float, high: float, stream: int = 0) -> Array:
    """Draws of a normal variable with the given median and the width of a 95 % interval: [DRAWS]."""
    rng = np.random.default_rng([SEED, stream])
    deviation = (high - low) / (2 * NormalDist().inv_cdf((1 + COVERAGE) / 2))
    return middle + deviation * rng.standard_normal(DRAWS)


def interval(draws: Array, seeds: int) -> tuple[float, float] | None:
    """An interval of 95 %; None for a single seed.

    From six seeds on it is the expanded percentile interval (Hesterberg, Am. Stat. 2015, 69, 371, section 4.3): few seeds make plain
    percentiles too narrow, by √((n−1)/n) and by z for t, and the levels are moved outwards by as much. Below, it is Student's, with the
    draws' standard deviation times √(n/(n−1)): wide, because so few seeds say little.

    Args:
        draws: Bootstrap draws.
        seeds: How many seeds they come from.
    """
    if seeds < 2 or not np.isfinite(draws).all():
        return None
    from scipy.special import stdtrit  # a dependency of ASE

    widening, t = math.sqrt(seeds / (seeds - 1)), float(stdtrit(seeds - 1, (1 + COVERAGE) / 2))
    if seeds < PERCENTILES_FROM:
        half = t * widening * float(draws.std())
        return float(draws.mean()) - half, float(draws.mean()) + half
    tail = NormalDist().cdf(-widening * t)
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)
