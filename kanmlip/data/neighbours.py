"""One neighbour list for all models (matscipy), cached on disk by the content of the structures."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from kanmlip.data.graph import Graph
from kanmlip.data.labels import attached

CACHE_VERSION = 1
Edges = tuple[NDArray[np.int64], NDArray[np.int64]]


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
    i, j, shift = neighbour_list("ijS", positions=positions, cell=cell, pbc=atoms.pbc, cutoff=float(cutoff))
    order = np.lexsort((shift[:, 2], shift[:, 1], shift[:, 0], j, i))
    return np.stack([i, j])[:, order].astype(np.int64), shift[order].astype(np.int64).reshape(-1, 3)


def search_cell(atoms: Atoms, cutoff: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A cell with volume that holds all atoms: open directions get vectors long enough that no image is a neighbour."""
    cell = np.array(atoms.cell.complete(), dtype=np.float64)
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


def to_graph(atoms: Atoms, edges: Edges, frame: int = 0) -> Graph:
    """A structure with its edges and whatever labels its calculator holds."""
    edge_index, shift = edges
    return Graph(
        positions=torch.from_numpy(np.array(atoms.positions, dtype=np.float64)),
        atomic_numbers=torch.from_numpy(np.array(atoms.numbers, dtype=np.int64)),
        cell=torch.from_numpy(np.array(atoms.cell, dtype=np.float64)).unsqueeze(0),
        pbc=torch.from_numpy(np.array(atoms.pbc, dtype=bool)).unsqueeze(0),
        edge_index=torch.from_numpy(edge_index),
        edge_cell_shift=torch.from_numpy(shift),
        batch=torch.zeros(len(atoms), dtype=torch.int64),
        num_atoms=torch.tensor([len(atoms)]),
        num_edges=torch.tensor([edge_index.shape[1]]),
        frame=torch.tensor([frame]),
        labels={name: torch.from_numpy(value) for name, value in attached(atoms).items()},
    )


def frame_to_graph(atoms: Atoms, cutoff: float) -> Graph:
    """One structure as a graph, float64 on the CPU."""
    return to_graph(atoms, neighbour_edges(atoms, cutoff))


def build_graphs(
    frames: Sequence[Atoms], cutoff: float, cache_dir: Path | None = None, indices: Sequence[int] | None = None
) -> list[Graph]:
    """One graph a structure, with the neighbour lists of all of them in one cache file.

    Args:
        frames: Structures, labels in their calculators.
        cutoff: Å.
        cache_dir: Folder of the cache; none to compute always. A file that cannot be read is made anew.
        indices: Index of each structure in its source (``Splits.indices``), kept in ``Graph.frame``; else counted from 0.
    """
    if not frames:
        return []
    path = None if cache_dir is None else cache_dir / "neighbours" / f"{content_key(frames, cutoff)}.npz"
    edges = None if path is None else _read(path, len(frames))
    if edges is None:
        edges = [neighbour_edges(atoms, cutoff) for atoms in frames]
        if path is not None:
            _write(path, edges)
    numbers = range(len(frames)) if indices is None else indices
    return [to_graph(atoms, pair, frame) for frame, atoms, pair in zip(numbers, frames, edges, strict=True)]


def content_key(frames: Sequence[Atoms], cutoff: float) -> str:
    """Checksum of everything that decides the neighbour lists."""
    digest = hashlib.sha256(f"{CACHE_VERSION} {cutoff!r} {len(frames)}".encode())
    for atoms in frames:
        for array in (atoms.numbers, atoms.positions, np.asarray(atoms.cell), atoms.pbc):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _read(path: Path, frames: int) -> list[Edges] | None:
    try:
        with np.load(path, allow_pickle=False) as stored:
            counts, index, shift = stored["counts"], stored["edge_index"], stored["shift"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    if len(counts) != frames or index.shape != (2, counts.sum()) or shift.shape != (counts.sum(), 3):
        return None
    ends = np.cumsum(counts)[:-1]
    return list(zip(np.split(index, ends, axis=1), np.split(shift, ends), strict=True))


def _write(path: Path, edges: Sequence[Edges]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.stem}.{os.getpid()}.npz")
        counts = np.array([index.shape[1] for index, _ in edges], dtype=np.int64)
        index = np.concatenate([pair[0] for pair in edges], axis=1)
        shift = np.concatenate([pair[1] for pair in edges])
        np.savez(temporary, counts=counts, edge_index=index, shift=shift)
        temporary.replace(path)
    except OSError:
        return  # a cache that cannot be written costs time, nothing else
