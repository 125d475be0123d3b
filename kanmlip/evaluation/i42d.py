"""SiO2 in space group I-42d: its three free parameters, and at every atom axes in which equivalent atoms have one tensor.

Silicon lies at (0, 0, 0) and oxygen at (x, 1/4, 1/8) of a tetragonal cell (a, a, c), four and eight times (International Tables,
No. 122, sites 4a and 8d). From an oxygen the two silicons next to it lie at (-x a, ± a/4, ± c/8): the bisector of the two points
along the oxygen's twofold axis and is x a long, their difference is (0, a/2, c/4). All follows from these vectors, in any
orientation and any choice of the cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanmlip.data.graph import Graph

Array = NDArray[np.float64]
OXYGEN, SILICON = 8, 14
# Relative deviation that still counts as the space group; all of the SiO2 set keeps to it within 3e-6.
TOLERANCE = 1e-2


@dataclass(frozen=True)
class Sites:
    """Geometry of S structures with N atoms.

    Attributes:
        parameters: [S, 3], a and c in Å and x.
        axes: [N, 3, 3], rows are orthonormal; equivalent atoms have equal tensors axes · T · axesᵀ, whichever operation of the
            space group (improper ones too) relates them.
    """

    parameters: Array
    axes: Array


@dataclass(frozen=True)
class _Bridges:
    """Each oxygen's two nearest silicons: [O], [O], [O, 2] atoms and structures, [O, 2, 3] vectors from the oxygen in Å."""

    oxygen: NDArray[np.int64]
    structure: NDArray[np.int64]
    silicon: NDArray[np.int64]
    vectors: Array


def find_sites(graph: Graph) -> Sites | None:
    """Parameters and axes of every structure of a batch; none if one is not of this family.

    Args:
        graph: A batch whose edges reach at least an oxygen's two nearest silicons.
    """
    bridges = _find_bridges(graph)
    if bridges is None:
        return None
    structures, of = graph.num_structures, bridges.structure
    middle = bridges.vectors.mean(1)
    offset = np.linalg.norm(middle, axis=1)
    if offset.min() < 1e-6:  # Å: at x = 0 the twofold axis cannot be seen from the neighbours
        return None
    twofold = middle / offset[:, None]
    fourfold = _fourfold_axes(twofold, of, structures)
    across = np.cross(fourfold[of], twofold)
    difference = bridges.vectors[:, 0] - bridges.vectors[:, 1]
    along, up = (difference * across).sum(1), (difference * fourfold[of]).sum(1)
    across *= np.where(along * up < 0, -1.0, 1.0)[:, None]
    each = np.stack([2 * np.abs(along), 4 * np.abs(up), offset / np.maximum(2 * np.abs(along), 1e-12)], axis=1)
    counts = np.bincount(of, minlength=structures)[:, None]
    parameters = np.stack([np.bincount(of, column, structures) for column in each.T], axis=1) / counts
    if not _is_i42d(graph, bridges, twofold, fourfold, each, parameters):
        return None
    axes = np.zeros((len(graph.positions), 3, 3))
    axes[bridges.oxygen] = np.stack([twofold, across, fourfold[of]], axis=1)
    for end in (0, 1):
        # A silicon's axes point at one of its oxygens; the fourfold rotoinversion makes all four give the same tensor.
        back = -bridges.vectors[:, end]
        rows = np.stack([-twofold, across, fourfold[of]], axis=1)
        axes[bridges.silicon[:, end]] = rows * np.where(np.einsum("oij,oj->oi", rows, back) < 0, -1.0, 1.0)[:, :, None]
    return Sites(parameters, axes)


def _find_bridges(graph: Graph) -> _Bridges | None:
    numbers, batch = graph.atomic_numbers.numpy(), graph.batch.numpy()
    oxygens = np.bincount(batch[numbers == OXYGEN], minlength=graph.num_structures)
    silicons = np.bincount(batch[numbers == SILICON], minlength=graph.num_structures)
    if not np.isin(numbers, (OXYGEN, SILICON)).all() or (oxygens != 2 * silicons).any():
        return None
    centre, neighbour = graph.edge_index.numpy()
    chosen = (numbers[centre] == OXYGEN) & (numbers[neighbour] == SILICON)
    centre, neighbour, shift = centre[chosen], neighbour[chosen], graph.edge_cell_shift.numpy()[chosen]
    positions, cells = graph.positions.double().numpy(), graph.cell.double().numpy()
    vectors = positions[neighbour] - positions[centre] + np.einsum("ei,eij->ej", shift.astype(np.float64), cells[batch[centre]])
    order = np.lexsort((np.linalg.norm(vectors, axis=1), centre))
    oxygen, first, edges = np.unique(centre[order], return_index=True, return_counts=True)
    if len(oxygen) != oxygens.sum() or edges.min() < 2:
        return None
    pairs = order[first[:, None] + np.arange(2)]
    return _Bridges(oxygen, batch[oxygen], neighbour[pairs], vectors[pairs])


def _fourfold_axes(twofold: Array, of: NDArray[np.int64], structures: int) -> Array:
    """[S, 3], across the twofold axes of two oxygens that have different ones; their sign means nothing."""
    reference = twofold[np.unique(of, return_index=True)[1]]
    order = np.lexsort((np.abs((twofold * reference[of]).sum(1)), of))
    other = twofold[order[np.searchsorted(of[order], np.arange(structures))]]
    axes = np.cross(reference, other)
    lengths: Array = np.linalg.norm(axes, axis=1, keepdims=True)
    normalised: Array = axes / np.maximum(lengths, 1e-12)
    return normalised


def _is_i42d(graph: Graph, bridges: _Bridges, twofold: Array, fourfold: Array, each: Array, parameters: Array) -> bool:
    of = bridges.structure
    scale = np.array([1.0, 1.0, 0.1])  # x itself may be near zero
    same = np.abs(each - parameters[of]) <= TOLERANCE * np.maximum(np.abs(parameters[of]), scale)
    volume = np.abs(np.linalg.det(graph.cell.double().numpy()))
    silicons = np.bincount(graph.batch.numpy()[graph.atomic_numbers.numpy() == SILICON], minlength=graph.num_structures)
    expected = parameters[:, 0] ** 2 * parameters[:, 1] / 4 * silicons
    difference = bridges.vectors[:, 0] - bridges.vectors[:, 1]
    alike = np.abs((twofold * twofold[np.unique(of, return_index=True)[1]][of]).sum(1))
    checks: tuple[Any, ...] = (
        same,
        # Twofold axes of two oxygens are parallel or at right angles, and halve the angle at the oxygen.
        (alike < TOLERANCE) | (alike > 1 - TOLERANCE),
        np.abs((difference * twofold).sum(1)) < TOLERANCE * np.linalg.norm(difference, axis=1),
        np.abs((twofold * fourfold[of]).sum(1)) < TOLERANCE,
        np.abs(np.linalg.norm(fourfold, axis=1) - 1) < TOLERANCE,
        np.abs(volume - expected) <= TOLERANCE * volume,
        np.isin(np.flatnonzero(graph.atomic_numbers.numpy() == SILICON), bridges.silicon),
    )
    return all(bool(np.all(check)) for check in checks)
