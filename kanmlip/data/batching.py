"""Which structures share a batch, and which processes share its work: pure functions of sizes, the same on every rank."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # settings are validated without torch
    from kanmlip.data.graph import Graph

Integers = NDArray[np.int64]

# Structures whose sizes differ by less than this factor are of one bucket, within which their order is drawn anew each epoch.
BUCKET = 1.5


@dataclass(frozen=True)
class Sizes:
    """What each of n structures costs.

    Attributes:
        atoms: [n].
        edges: [n], directed.
        triplets: [n]; zeros for most models.
    """

    atoms: Integers
    edges: Integers
    triplets: Integers

    @classmethod
    def of(cls, graphs: Sequence[Graph]) -> Sizes:
        """Sizes of structures, one a graph."""
        counts = [(g.positions.shape[0], g.edge_index.shape[1], g.triplets.shape[1]) for g in graphs]
        return cls(*np.array(counts, dtype=np.int64).reshape(-1, 3).T)

    @property
    def work(self) -> Integers:
        """What time and memory of a step grow with, [n]: atoms, edges and triplets together."""
        return self.atoms + self.edges + self.triplets


@dataclass(frozen=True)
class Limits:
    """The most that a batch may hold; none of a kind is no limit of that kind.

    Attributes:
        structures: Structures.
        atoms: Atoms.
        edges: Directed edges.
    """

    structures: int | None = None
    atoms: int | None = None
    edges: int | None = None

    @property
    def by_size(self) -> bool:
        """Whether atoms or edges are limited, so that batches are filled by size."""
        return self.atoms is not None or self.edges is not None

    def fullness(self, sizes: Sizes) -> NDArray[np.float64]:
        """Share of a batch that each structure takes up by itself, [n, 2]: by atoms and by edges; above 1 it fits into none."""
        shares = [
            np.zeros(len(count)) if limit is None else count / limit
            for count, limit in ((sizes.atoms, self.atoms), (sizes.edges, self.edges))
        ]
        return np.stack(shares, axis=1)


def epoch_batches(sizes: Sizes, limits: Limits, random: np.random.Generator) -> list[list[int]]:
    """Every structure once, in batches of random composition and order.

    Without limits of size, a shuffled order is cut into batches of ``limits.structures``. With them, all batches are filled alike:
    as few as can be, the structures dealt to the emptiest batch, large ones first and in random order among those of about one size.

    Args:
        sizes: Of n structures, each of which fits into a batch.
        limits: Of a batch.
        random: Drawn from.
    """
    order = random.permutation(len(sizes.atoms))
    if not limits.by_size:
        step = limits.structures or len(order)
        return [order[start : start + step].tolist() for start in range(0, len(order), step)]
    shares = limits.fullness(sizes)
    bucket = np.round(np.log(np.maximum(shares.max(1), 1e-12)) / math.log(BUCKET))
    order = order[np.argsort(-bucket[order], kind="stable")]
    fewest = shares.sum(0).max()
    if limits.structures is not None:
        fewest = max(fewest, len(order) / limits.structures)
    count = max(1, math.ceil(fewest - 1e-9))
    while (found := _deal(shares, order, count, limits.structures)) is None:
        count += 1
    return [found[i] for i in random.permutation(count)]


def _deal(shares: NDArray[np.float64], order: Integers, count: int, most: int | None) -> list[list[int]] | None:
    """Structures dealt in order to the emptiest of so many batches; none if one does not fit there."""
    batches: list[list[int]] = [[] for _ in range(count)]
    filled = np.zeros((count, 2))
    heap = [(0.0, number) for number in range(count)]
    for index in order.tolist():
        _, number = heapq.heappop(heap)
        filled[number] += shares[index]
        batches[number].append(index)
        if filled[number].max() > 1 + 1e-9 or (most is not None and len(batches[number]) > most):
            return None
        heapq.heappush(heap, (float(filled[number].max()), number))
    return [batch for batch in batches if batch] if len(order) < count else batches


def consecutive_batches(sizes: Sizes, limits: Limits) -> list[list[int]]:
    """Every structure once and in order, as many to a batch as fit; one that is too large has a batch to itself."""
    batches: list[list[int]] = []
    shares = limits.fullness(sizes)
    filled = np.zeros(2)
    for index, share in enumerate(shares):
        full = bool(batches) and limits.structures is not None and len(batches[-1]) >= limits.structures
        if not batches or full or (filled + share).max() > 1 + 1e-9:
            batches.append([])
            filled = np.zeros(2)
        batches[-1].append(index)
        filled = filled + share
    return batches


def largest_batch(sizes: Sizes, limits: Limits) -> list[int]:
    """The structures, most work first, of a batch that no batch of any epoch exceeds; of those filled by size, by no more than a trifle."""
    shares, work = limits.fullness(sizes), sizes.work
    # By size alone the fullest batch; by work for what it takes up, the one with the most edges where only atoms are limited.
    orders = [np.argsort(-work, kind="stable"), np.argsort(-work / np.maximum(shares.max(1), 1e-12), kind="stable")]
    found = [_fill(shares, order, limits.structures) for order in orders]
    best = max(found, key=lambda batch: int(work[batch].sum()))
    return sorted(best, key=lambda index: -int(work[index]))


def _fill(shares: NDArray[np.float64], order: Integers, most: int | None) -> list[int]:
    batch: list[int] = []
    filled = np.zeros(2)
    for index in order.tolist():
        if most is not None and len(batch) == most:
            break
        if not batch or (filled + shares[index]).max() <= 1 + 1e-9:
            batch.append(index)
            filled = filled + shares[index]
    return batch


def divide(work: Integers, parts: int) -> list[list[int]]:
    """Structures divided over processes so that all have about the same work: the largest first, each to whoever has least.

    Args:
        work: Of n structures.
        parts: Processes; the first has some if anyone has.

    Returns:
        For each process the positions of its structures, ascending.
    """
    shares: list[list[int]] = [[] for _ in range(parts)]
    heap = [(0, part) for part in range(parts)]
    for index in np.argsort(-work, kind="stable").tolist():
        load, part = heapq.heappop(heap)
        shares[part].append(index)
        heapq.heappush(heap, (load + int(work[index]), part))
    return [sorted(share) for share in shares]
