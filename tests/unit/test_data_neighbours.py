"""The neighbour list against a brute-force sum over images, and its cache."""

from __future__ import annotations

import resource
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from kanmlip.data import neighbours
from kanmlip.data.graph import batch_graphs
from kanmlip.data.neighbours import build_graphs, frame_to_graph, neighbour_edges, search_cell
from kanmlip.data.plausibility import fault_of_structure
from kanmlip.data.sparse_pairs import sparse_pairs


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


@pytest.mark.parametrize(
    ("field", "offset", "bit"), [("version", 6, 6), ("method", 10, 5), ("encrypted", 8, 0), ("strongly encrypted", 8, 6)]
)
def test_a_cache_with_a_flipped_bit_is_made_anew(field: str, offset: int, bit: int, silver: list[Atoms], tmp_path: Path) -> None:
    made = build_graphs(silver, 3.5, tmp_path)
    (file,) = (tmp_path / "neighbours").iterdir()
    good = file.read_bytes()
    damaged = bytearray(good)
    damaged[good.index(b"PK\x01\x02") + offset] ^= 1 << bit  # the first entry of the archive's directory
    file.write_bytes(damaged)
    again = build_graphs(silver, 3.5, tmp_path)
    for one, other in zip(made, again, strict=True):
        assert torch.equal(one.edge_index, other.edge_index)
    assert file.read_bytes()[:4] == good[:4]
    assert bytes(damaged) != file.read_bytes()


def test_an_empty_split_has_no_graphs(tmp_path: Path) -> None:
    assert build_graphs([], 4.0, tmp_path) == []


def test_graphs_carry_the_index_of_their_frame_in_the_source(silver: list[Atoms]) -> None:
    assert [int(graph.frame[0]) for graph in build_graphs(silver[:2], 3.0)] == [0, 1]
    assert [int(graph.frame[0]) for graph in build_graphs(silver[:2], 3.0, indices=[17, 4])] == [17, 4]


def test_a_cache_that_cannot_be_written_does_no_harm(silver: list[Atoms], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert len(build_graphs(silver, 3.0, tmp_path / "file")) == 4


def old_edges(atoms: Atoms, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """Edges with open directions stretched along the vectors that the cell gives for them."""
    from matscipy.neighbours import neighbour_list

    cell = np.array(atoms.cell.complete())
    fractional = atoms.positions @ np.linalg.inv(cell)
    margin = (cutoff + 1) * np.linalg.norm(np.linalg.inv(cell), axis=0)
    low, width = fractional.min(0), np.ptp(fractional, axis=0) + 2 * margin
    fractional = np.where(atoms.pbc, fractional, (fractional - low + margin) / width)
    cell = np.where(atoms.pbc[:, None], cell, cell * width[:, None])
    i, j, shift = neighbour_list("ijS", positions=fractional @ cell, cell=cell, pbc=atoms.pbc, cutoff=cutoff)
    order = np.lexsort((shift[:, 2], shift[:, 1], shift[:, 0], j, i))
    return np.stack([i, j])[:, order], shift[order]


@pytest.mark.parametrize("pbc", list(product([False, True], repeat=3)))
def test_edges_do_not_depend_on_the_vectors_of_open_directions_nor_on_how_they_are_searched(pbc: tuple[bool, bool, bool]) -> None:
    random = np.random.default_rng(1)
    found = 0
    for trial in range(40):
        cell = np.diag(random.uniform(2, 9, 3)) + random.normal(size=(3, 3))
        cell = cell[[1, 0, 2]] if trial % 2 else cell  # left-handed
        number = int(random.integers(1, 9))
        atoms = Atoms(f"Ag{number}", random.uniform(-8, 12, (number, 3)), cell=cell, pbc=pbc)
        cutoff = float(random.choice([1.5, 3.0, 5.0]))
        index, shift = neighbour_edges(atoms, cutoff)
        expected = old_edges(atoms, cutoff)
        assert np.array_equal(index, expected[0])
        assert np.array_equal(shift, expected[1])
        i, j, moved = sparse_pairs(*search_cell(atoms, cutoff), atoms.pbc, cutoff)
        assert len(i) == index.shape[1]
        assert set(zip(i, j, *moved.T, strict=True)) == set(zip(*index, *shift.T, strict=True))
        found += len(i)
    assert found > 20


@pytest.mark.parametrize(
    ("pbc", "cell"),
    [
        ("FFF", [[10, 0, 0], [10, 0, 0], [0, 0, 10]]),
        ("TFF", [[10, 0, 0], [10, 0, 0], [0, 0, 10]]),
        ("TTF", [[10, 0, 0], [0, 10, 0], [10, 10, 0]]),
        ("TTF", [[10, 0, 0], [0, 10, 0], [0, 0, 1e-300]]),
        ("FTF", [[1e-9, 0, 0], [0, 10, 0], [0, 5, 0]]),
    ],
)
def test_vectors_of_open_directions_may_be_anything(pbc: str, cell: list[list[float]]) -> None:
    periodic = [letter == "T" for letter in pbc]
    positions = [[0.5, 0.5, 0], [9.5, 9.5, 0], [2, 2, 2]]
    atoms = Atoms("H3", positions, cell=cell, pbc=periodic)
    bare = Atoms("H3", positions, cell=10 * np.diag(periodic), pbc=periodic)
    assert fault_of_structure(atoms) is None
    for found, expected in zip(neighbour_edges(atoms, 3.5), neighbour_edges(bare, 3.5), strict=True):
        assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("box", "pbc"),
    [((100, 100, 100), True), ((9000, 9000, 9000), True), ((9000, 9000, 9000), False), ((12, 9000, 9000), (True, True, False))],
)
def test_mostly_empty_boxes_take_little_memory(box: tuple[float, ...], pbc: bool | tuple[bool, ...]) -> None:
    benzene = molecule("C6H6")
    atoms = Atoms(benzene.symbols, benzene.positions, cell=box, pbc=pbc)
    atoms.positions[0] += 0.9 * np.array(box)
    alone = Atoms(benzene.symbols, atoms.positions, cell=[12, 0, 0] if box[0] == 12 else None, pbc=[box[0] == 12, False, False])
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    try:
        resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20), before[1]))
        assert fault_of_structure(atoms) is None
        edges = neighbour_edges(atoms, 5.0)[0]
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert np.array_equal(edges, neighbour_edges(alone, 5.0)[0])


@pytest.mark.parametrize("offset", [0.0, 0.19, 0.21])
@pytest.mark.parametrize("box", [6.0, 300.0])
def test_atoms_that_overlap_are_named_across_faces_and_in_large_boxes(box: float, offset: float) -> None:
    atoms = Atoms("H3", [[3, 3, 3], [0.05, 1, 1], [0.05 - offset + 2 * box, 1, 1]], cell=[box] * 3, pbc=True)
    said = fault_of_structure(atoms)
    assert (said is None) == (offset > 0.2)
    assert said is None or "atoms 1 and 2 are less than 0.2 Å apart" in said


def test_long_vectors_that_depend_on_one_another_have_no_volume() -> None:
    long = np.array([3333.1, 2222.7, 1111.3])
    atoms = Atoms("H", cell=[long, 1.7 * long, [0, 0, 9.0]], pbc=True)
    said = fault_of_structure(atoms)
    assert said is not None
    assert "no volume" in said
