"""Neighbour lists (matscipy), and what else of a structure's geometry a model asks for, cached on disk by content."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from kanmlip.data.closed_cell import closed_cell
from kanmlip.data.graph import Graph
from kanmlip.data.labels import attached
from kanmlip.data.sparse_pairs import mostly_empty, sparse_pairs
from kanmlip.experiment.atomic import write_bytes

CACHE_VERSION = 1
Edges = tuple[NDArray[np.int64], NDArray[np.int64]]
NO_TRIPLETS: NDArray[np.int64] = np.empty((2, 0), dtype=np.int64)


@dataclass(frozen=True)
class Topology:
    """What connects the atoms of one structure; see :class:`kanmlip.data.graph.Graph`.

    Attributes:
        edge_index: [2, E], ordered by centre.
        shift: [E, 3], whole lattice vectors.
        triplets: [2, T], pairs of edges; none for most models.
    """

    edge_index: NDArray[np.int64]
    shift: NDArray[np.int64]
    triplets: NDArray[np.int64] = field(default_factory=lambda: NO_TRIPLETS)


class Connectivity(Protocol):
    """How a model connects the atoms of a structure, where a radius alone does not say it."""

    @property
    def key(self) -> str:
        """Every setting that decides the outcome, as text; part of the cache's key."""

    def connect(self, atoms: Atoms) -> Topology:
        """The edges and triplets of one structure."""


@dataclass(frozen=True)
class WithinCutoff:
    """Every pair within a radius, in both directions, without triplets.

    Attributes:
        cutoff: Å.
    """

    cutoff: float

    @property
    def key(self) -> str:
        """See :class:`Connectivity`."""
        return repr(self.cutoff)

    def connect(self, atoms: Atoms) -> Topology:
        """See :class:`Connectivity`."""
        return Topology(*neighbour_edges(atoms, self.cutoff))


def neighbour_edges(atoms: Atoms, cutoff: float) -> Edges:
    """Every directed edge within the cutoff, periodic images of an atom itself included.

    Args:
        atoms: Any mixture of periodic and open directions.
        cutoff: Å.

    Returns:
        edge_index [2, E], ordered by centre, and whole lattice vectors [E, 3]; see :class:`kanmlip.data.graph.Graph`.
    """
    from matscipy.neighbours import neighbour_list

    cell, positions = search_cell(atoms, cutoff)
    if mostly_empty(cell, len(atoms), cutoff):
        i, j, shift = sparse_pairs(cell, positions, atoms.pbc, float(cutoff))
    else:
        i, j, shift = neighbour_list("ijS", positions=positions, cell=cell, pbc=atoms.pbc, cutoff=float(cutoff))
    order = np.lexsort((shift[:, 2], shift[:, 1], shift[:, 0], j, i))
    return np.stack([i, j])[:, order].astype(np.int64), shift[order].astype(np.int64).reshape(-1, 3)


def search_cell(atoms: Atoms, cutoff: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A cell with volume that holds all atoms: open directions get vectors long enough that no image is a neighbour."""
    cell = closed_cell(atoms)
    positions = np.array(atoms.positions, dtype=np.float64)
    fractional = positions @ np.linalg.inv(cell)
    for axis in np.flatnonzero(~atoms.pbc):
        low, high = fractional[:, axis].min(), fractional[:, axis].max()
        # Distance between the cell's faces along this axis, per unit of the fractional coordinate.
        height = 1 / np.linalg.norm(np.linalg.inv(cell)[:, axis])
        margin = (cutoff + 1.0) / height
        fractional[:, axis] = (fractional[:, axis] - low + margin) / (high - low + 2 * margin)
        cell[axis] *= high - low + 2 * margin
    return cell, fractional @ cell


def to_graph(atoms: Atoms, topology: Topology, frame: int = 0) -> Graph:
    """A structure with its edges, its triplets and whatever labels its calculator holds."""
    return Graph(
        positions=torch.from_numpy(np.array(atoms.positions, dtype=np.float64)),
        atomic_numbers=torch.from_numpy(np.array(atoms.numbers, dtype=np.int64)),
        cell=torch.from_numpy(np.array(atoms.cell, dtype=np.float64)).unsqueeze(0),
        pbc=torch.from_numpy(np.array(atoms.pbc, dtype=bool)).unsqueeze(0),
        edge_index=torch.from_numpy(topology.edge_index),
        edge_cell_shift=torch.from_numpy(topology.shift),
        batch=torch.zeros(len(atoms), dtype=torch.int64),
        num_atoms=torch.tensor([len(atoms)]),
        num_edges=torch.tensor([topology.edge_index.shape[1]]),
        frame=torch.tensor([frame]),
        labels={name: torch.from_numpy(value) for name, value in attached(atoms).items()},
        triplets=torch.from_numpy(topology.triplets),
        num_triplets=torch.tensor([topology.triplets.shape[1]]),
    )


def frame_to_graph(atoms: Atoms, cutoff: float | Connectivity) -> Graph:
    """One structure as a graph, float64 on the CPU; see :func:`build_graphs`."""
    return to_graph(atoms, _connectivity(cutoff).connect(atoms))


def build_graphs(
    frames: Sequence[Atoms], cutoff: float | Connectivity, cache_dir: Path | None = None, indices: Sequence[int] | None = None
) -> list[Graph]:
    """One graph a structure, with the topologies of all of them in one cache file.

    Args:
        frames: Structures, labels in their calculators.
        cutoff: Å, to connect every pair within it; or what else a model has to say about it.
        cache_dir: Folder of the cache; none to compute always. A file that cannot be read is made anew.
        indices: Index of each structure in its source (``Splits.indices``), kept in ``Graph.frame``; else counted from 0.
    """
    if not frames:
        return []
    connectivity = _connectivity(cutoff)
    path = None if cache_dir is None else cache_dir / "neighbours" / f"{content_key(frames, connectivity.key)}.npz"
    topologies = None if path is None else _read(path, len(frames))
    if topologies is None:
        topologies = [connectivity.connect(atoms) for atoms in frames]
        if path is not None:
            _write(path, topologies)
    numbers = range(len(frames)) if indices is None else indices
    return [to_graph(atoms, topology, frame) for frame, atoms, topology in zip(numbers, frames, topologies, strict=True)]


def _connectivity(cutoff: float | Connectivity) -> Connectivity:
    return WithinCutoff(float(cutoff)) if isinstance(cutoff, (int, float)) else cutoff


def content_key(frames: Sequence[Atoms], settings: str) -> str:
    """Checksum of everything that decides the topologies: the structures, and the settings as text."""
    digest = hashlib.sha256(f"{CACHE_VERSION} {settings} {len(frames)}".encode())
    for atoms in frames:
        for array in (atoms.numbers, atoms.positions, np.asarray(atoms.cell), atoms.pbc):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _read(path: Path, frames: int) -> list[Topology] | None:
    try:
        with np.load(path, allow_pickle=False) as stored:
            counts, index, shift = stored["counts"], stored["edge_index"], stored["shift"]
            # Files from before there were triplets lack them.
            triplet_counts = stored["triplet_counts"] if "triplet_counts" in stored else np.zeros(frames, dtype=np.int64)
            triplets = stored["triplets"].astype(np.int64) if "triplets" in stored else NO_TRIPLETS
    except Exception:  # of many kinds: zipfile takes damaged bytes for a newer format, a method it does not know, or encryption
        return None
    if len(counts) != frames or index.shape != (2, counts.sum()) or shift.shape != (counts.sum(), 3):
        return None
    if len(triplet_counts) != frames or triplets.shape != (2, triplet_counts.sum()):
        return None
    ends, triplet_ends = np.cumsum(counts)[:-1], np.cumsum(triplet_counts)[:-1]
    parts = (np.split(index, ends, axis=1), np.split(shift, ends), np.split(triplets, triplet_ends, axis=1))
    return [Topology(*arrays) for arrays in zip(*parts, strict=True)]


def _write(path: Path, topologies: Sequence[Topology]) -> None:
    arrays: dict[str, Any] = {
        "counts": np.array([topology.edge_index.shape[1] for topology in topologies], dtype=np.int64),
        "edge_index": np.concatenate([topology.edge_index for topology in topologies], axis=1),
        "shift": np.concatenate([topology.shift for topology in topologies]),
        "triplet_counts": np.array([topology.triplets.shape[1] for topology in topologies], dtype=np.int64),
        # Half the size of int64; no structure has two thousand million edges.
        "triplets": np.concatenate([topology.triplets for topology in topologies], axis=1).astype(np.int32),
    }
    try:
        write_bytes(path, lambda file: np.savez(file, **arrays))
    except OSError:
        return  # a cache that cannot be written costs time, nothing else
