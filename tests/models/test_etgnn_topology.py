"""Edges to the nearest neighbours and triplets, against lists made by brute force; their cache; batches of them."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.io import read

from kanmlip.data.graph import batch_graphs
from kanmlip.data.neighbours import build_graphs
from kanmlip.data.root import data_root
from kanmlip.errors import DataError
from kanmlip.models.etgnn import topology
from kanmlip.models.etgnn.geometry import junctions, measure
from kanmlip.models.etgnn.topology import NearestNeighbours, nearest
from tests.models.etgnn_equations import edges_of
from tests.models.tensors import etgnn, silica

SIO2 = data_root() / "sio2_bec" / "all_3992.extxyz.xz"


def rule(count: int, shells: bool = True, triplet_range: float | None = 4.0, cutoff: float = 6.0) -> NearestNeighbours:
    return NearestNeighbours(cutoff, count, shells, triplet_range)


def vectors(atoms: Atoms, made: topology.Topology) -> np.ndarray:
    centre, neighbour = made.edge_index
    return atoms.positions[neighbour] - atoms.positions[centre] + made.shift @ atoms.cell[:]


@pytest.mark.parametrize("shells", [True, False])
def test_edges_go_to_the_nearest_neighbours(shells: bool) -> None:
    atoms = silica()
    made = rule(8, shells).connect(atoms)
    found = sorted((j, i, *np.round(v, 6)) for j, i, v in zip(*made.edge_index.tolist(), vectors(atoms, made).tolist(), strict=True))
    assert found == sorted((j, i, *np.round(v, 6)) for j, i, v in edges_of(atoms, 6.0, 8))
    assert (np.diff(made.edge_index[0]) >= 0).all()


def test_whole_shells_are_taken_where_a_count_would_cut_them() -> None:
    silver = bulk("Ag", a=4.0)  # shells of 12, 6 and 24 neighbours
    lengths = {count: len(rule(count).connect(silver).shift) for count in (1, 12, 13, 18, 19, 42, 500)}
    assert lengths == {1: 12, 12: 12, 13: 18, 18: 18, 19: 42, 42: 42, 500: lengths[500]}
    assert len(rule(13, shells=False).connect(silver).shift) == 13


def test_a_shell_ends_at_the_first_gap_beyond_the_tolerance() -> None:
    centre = np.zeros(5, dtype=np.int64)
    distances = np.array([2.0, 3.0, 3.0008, 3.0016, 3.01])
    assert nearest(centre, distances, 2, True).tolist() == [True, True, True, True, False]
    assert nearest(centre, distances, 2, False).tolist() == [True, True, False, False, False]
    shuffled = [3, 0, 4, 2, 1]
    assert nearest(centre, distances[shuffled], 2, True).tolist() == [True, True, False, True, True]


def test_edges_need_no_reverse() -> None:
    made = rule(4, shells=False).connect(silica())
    forward = {(j, i, *s) for j, i, s in zip(*made.edge_index.tolist(), made.shift.tolist(), strict=True)}
    assert any((i, j, -a, -b, -c) not in forward for j, i, a, b, c in forward)


@pytest.mark.parametrize("triplet_range", [4.0, None])
def test_triplets_are_all_pairs_of_edges_that_meet_but_the_way_back(triplet_range: float | None) -> None:
    atoms = silica()
    made = rule(9, triplet_range=triplet_range).connect(atoms)
    vector = vectors(atoms, made)
    short = np.linalg.norm(vector, axis=1) < (triplet_range or np.inf)
    start, end = made.edge_index
    expected = {
        (a, b)
        for a in range(len(start))
        for b in range(len(start))
        if end[a] == start[b] and short[a] and short[b] and not (start[a] == end[b] and np.allclose(vector[a], -vector[b], atol=1e-9))
    }
    assert set(map(tuple, made.triplets.T.tolist())) == expected
    assert len(expected) == made.triplets.shape[1] > 0


def test_an_atom_is_no_way_back_to_its_own_images() -> None:
    """With one atom in the cell every edge starts and ends at it; only the opposite one leads back."""
    made = rule(12, triplet_range=None).connect(bulk("Ag", a=4.0))
    assert made.edge_index.shape[1] == 12
    assert made.triplets.shape[1] == 12 * 11


@pytest.mark.parametrize(
    "atoms", [Atoms("Ag"), Atoms("Ag2", positions=[[0, 0, 0], [0, 0, 2.5]]), Atoms("Ag2", positions=[[0, 0, 0], [0, 0, 9]])]
)
def test_structures_without_triplets_have_empty_ones(atoms: Atoms) -> None:
    (graph,) = build_graphs([atoms], rule(12))
    assert graph.triplets.shape == (2, 0)
    assert graph.triplets.dtype == torch.int64
    assert graph.num_triplets.tolist() == [0]


def test_atoms_at_one_place_are_refused() -> None:
    """There the direction, and with it every tensor of the structure, would be not a number."""
    pair = Atoms("SiO2", positions=[[0, 0, 0], [1.6, 0, 0], [1.6, 6.3, 1e-9]], cell=[6.0, 6.3, 6.0], pbc=True)
    with pytest.raises(DataError, match=r"atoms 1 and 2 .*O2Si.*at one place"):
        rule(8).connect(pair)


def test_batches_offset_triplets_by_edges_and_count_them() -> None:
    graphs = build_graphs([silica(0), Atoms("O"), silica(1)], rule(8))
    joined = batch_graphs(graphs)
    assert joined.num_triplets.tolist() == [graph.triplets.shape[1] for graph in graphs]
    edges = graphs[0].edge_index.shape[1]
    assert torch.equal(joined.triplets[:, graphs[0].triplets.shape[1] :], graphs[2].triplets + edges)
    first, second = joined.triplets
    assert torch.equal(joined.edge_index[1, first], joined.edge_index[0, second])
    moved = joined.to("cpu", torch.float32)
    assert torch.equal(moved.triplets, joined.triplets)


def test_models_without_triplets_have_none_and_zero_counts(silver: list[Atoms]) -> None:
    joined = batch_graphs(build_graphs(silver[:2], 3.5))
    assert joined.triplets.shape == (2, 0)
    assert joined.num_triplets.tolist() == [0, 0]


def test_the_cache_holds_triplets_and_knows_every_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [silica(seed) for seed in range(3)]
    model = etgnn()
    made = model.graphs(frames, tmp_path, [5, 6, 9])
    with monkeypatch.context() as patch:
        patch.setattr(topology, "neighbour_edges", lambda *_: pytest.fail("the cache was not used"))
        cached = model.graphs(frames, tmp_path, [5, 6, 9])
    for one, other in zip(made, cached, strict=True):
        for name in ("edge_index", "edge_cell_shift", "triplets", "num_triplets", "frame"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
            assert getattr(one, name).dtype == getattr(other, name).dtype
    changes = [{"cutoff": 5.0}, {"max_neighbours": 7}, {"neighbours": "nearest"}, {"triplet_range": 3.5}, {"prune_triplets": False}]
    for change in changes:
        etgnn(**change).graphs(frames, tmp_path)
    assert len(list((tmp_path / "neighbours").iterdir())) == 1 + len(changes)


def test_junctions_hold_every_pair_of_edges_that_meet_once() -> None:
    frames = [silica(), Atoms("O"), silica(1)]
    graph = batch_graphs(build_graphs(frames, rule(8, triplet_range=None)))
    geometry = measure(graph)
    meeting = junctions(geometry)
    atoms, k_in, k_out = meeting.shape
    edge_in = torch.full((atoms * k_in,), -1).index_copy(0, meeting.slot_in, torch.arange(len(geometry.source)))
    edge_out = torch.full((atoms * k_out,), -1).index_copy(0, meeting.slot_out, torch.arange(len(geometry.source)))
    pairs = torch.stack(torch.broadcast_tensors(edge_in.view(atoms, 1, k_in), edge_out.view(atoms, k_out, 1)))
    real = (pairs >= 0).all(0) & meeting.allowed
    found = pairs[:, real]
    assert sorted(found.T.tolist()) == sorted(graph.triplets.T.tolist())
    cosine = (geometry.direction[found[0]] * geometry.direction[found[1]]).sum(1)
    torch.testing.assert_close(meeting.cosine[real], cosine, rtol=0, atol=1e-15)


@pytest.mark.skipif(not SIO2.exists(), reason=f"needs the SiO2 set under $KANMLIP_DATA ({SIO2.name})")
def test_graphs_of_the_sio2_set_are_made_fast_enough() -> None:
    frames = read(SIO2, index=":200")
    start = time.process_time()
    graphs = etgnn("paper").graphs(frames)
    # A minute for the whole set of 3,992.
    assert time.process_time() - start < 60 * len(frames) / 3992
    assert sum(graph.triplets.shape[1] for graph in graphs) / len(graphs) > 1000
