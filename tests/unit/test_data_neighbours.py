"""The neighbour list against a brute-force sum over images, and its cache."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from kanmlip.data import neighbours
from kanmlip.data.graph import batch_graphs
from kanmlip.data.neighbours import build_graphs, frame_to_graph, neighbour_edges


def slab() -> Atoms:
    atoms = bulk("Ag", cubic=True).repeat((2, 1, 1))
    atoms.pbc = [True, True, False]
    atoms.positions[:, 2] += 3.0
    return atoms


def skewed() -> Atoms:
    atoms = bulk("C", "diamond", a=3.5)
    atoms.rattle(0.1, seed=3)
    atoms.positions += [7.0, -9.0, 4.0]  # outside of the cell
    return atoms


STRUCTURES = {
    "primitive diamond, images of itself": skewed(),
    "slab, one open direction": slab(),
    "molecule, no cell": molecule("CH3CH2OH"),
    "molecule far from the origin": Atoms("H2O", positions=molecule("H2O").positions + 50),
    "single periodic atom": bulk("Ag"),
}


def brute_force(atoms: Atoms, cutoff: float) -> set[tuple[int, ...]]:
    reach = [range(-4, 5) if periodic else range(1) for periodic in atoms.pbc]
    edges = set()
    for shift in product(*reach):
        offset = np.array(shift) @ np.asarray(atoms.cell)
        distances = np.linalg.norm(atoms.positions[None] + offset - atoms.positions[:, None], axis=-1)
        edges |= {(i, j, *shift) for i, j in np.argwhere((distances < cutoff) & (distances > 1e-9)).tolist()}
    return edges


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("cutoff", [2.0, 4.5])
def test_edges_equal_a_sum_over_images(name: str, cutoff: float) -> None:
    index, shift = neighbour_edges(STRUCTURES[name], cutoff)
    found = [(*pair, *s) for pair, s in zip(index.T.tolist(), shift.tolist(), strict=True)]
    assert len(found) == len(set(found))
    assert set(found) == brute_force(STRUCTURES[name], cutoff)
    assert (np.diff(index[0]) >= 0).all()


def test_an_isolated_atom_has_no_edges_but_a_whole_graph() -> None:
    graph = frame_to_graph(Atoms("Ag"), 5.0)
    assert graph.edge_index.shape == (2, 0)
    assert graph.edge_cell_shift.shape == (0, 3)
    assert graph.edge_index.dtype == torch.int64
    assert graph.positions.dtype == torch.float64
    assert graph.labels == {}


def test_labels_keep_their_shapes_and_batching_offsets_indices(silver: list[Atoms]) -> None:
    graphs = [frame_to_graph(atoms, 3.5) for atoms in silver[:2]]
    joined = batch_graphs(graphs)
    assert joined.labels["energy"].shape == (2,)
    assert joined.labels["forces"].shape == (32, 3)
    assert joined.labels["stress"].shape == (2, 3, 3)
    torch.testing.assert_close(joined.labels["stress"][1], torch.tensor(silver[1].get_stress(voigt=False)))
    second = joined.edge_index[:, joined.batch[joined.edge_index[0]] == 1]
    assert torch.equal(second - 16, graphs[1].edge_index)


def test_the_cache_is_used_keyed_by_content_and_survives_corruption(
    silver: list[Atoms], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = build_graphs(silver, 3.5, tmp_path)
    (file,) = (tmp_path / "neighbours").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(neighbours, "neighbour_edges", lambda *_: pytest.fail("the cache was not used"))
        cached = build_graphs(silver, 3.5, tmp_path)
    for one, other in zip(made, cached, strict=True):
        assert torch.equal(one.edge_index, other.edge_index)
        assert torch.equal(one.edge_cell_shift, other.edge_cell_shift)
    file.write_bytes(file.read_bytes()[:100])
    again = build_graphs(silver, 3.5, tmp_path)
    assert torch.equal(again[3].edge_index, made[3].edge_index)
    build_graphs(silver, 3.6, tmp_path)
    assert len(list((tmp_path / "neighbours").iterdir())) == 2


def test_an_empty_split_has_no_graphs(tmp_path: Path) -> None:
    assert build_graphs([], 4.0, tmp_path) == []


def test_graphs_carry_the_index_of_their_frame_in_the_source(silver: list[Atoms]) -> None:
    assert [int(graph.frame[0]) for graph in build_graphs(silver[:2], 3.0)] == [0, 1]
    assert [int(graph.frame[0]) for graph in build_graphs(silver[:2], 3.0, indices=[17, 4])] == [17, 4]


def test_a_cache_that_cannot_be_written_does_no_harm(silver: list[Atoms], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert len(build_graphs(silver, 3.0, tmp_path / "file")) == 4
