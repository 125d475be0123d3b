"""Tensors turn with the structure and depend on nothing that physics does not know: for every rank, placement and basis."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from scipy.spatial.transform import Rotation

from kanmlip.models.etgnn.tensor_heads import TensorTarget
from tests.models.cases import Case
from tests.models.tensors import BORN, build_model, build_network, build_tensor_case, connected, etgnn, silica, tensor_cases

CASES = tensor_cases()
RANKS = {f"rank{rank}": TensorTarget(rank, "atom") for rank in range(4)}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-11}
TURN = Rotation.from_euler("xyz", [0.3, -1.1, 2.0]).as_matrix()


def turned(atoms: Atoms) -> Atoms:
    copy = atoms.copy()
    copy.set_cell(atoms.cell[:] @ TURN.T, scale_atoms=True)
    return copy


def rotate(tensor: torch.Tensor) -> torch.Tensor:
    """R on every axis but the first."""
    matrix = torch.as_tensor(TURN).to(tensor.dtype)
    for _ in range(1, tensor.dim()):
        tensor = torch.tensordot(tensor, matrix, dims=([1], [1]))  # takes the first axis away and adds the turned one last
    return tensor


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_tensors_of_every_rank_turn_with_the_structure(dtype: torch.dtype) -> None:
    frames = [silica(seed) for seed in range(2)]
    potential = build_network(RANKS, dtype)
    before, after = potential(connected(frames)), potential(connected([turned(atoms) for atoms in frames]))
    for rank, name in enumerate(RANKS):
        assert before[name].shape == (18, *[3] * rank)
        assert before[name].dtype == torch.float64
        assert relative(after[name], rotate(before[name])) < TOLERANCE[dtype], name


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_born_charges_turn_with_the_structure_whatever_is_swapped(case: Case, dtype: torch.dtype) -> None:
    frames = [silica()]
    potential, graph, _ = build_tensor_case(case, frames, dtype)
    before, after = potential(graph)[BORN], potential(etgnn().collate([turned(frames[0])]))[BORN]
    assert relative(after, rotate(before)) < TOLERANCE[dtype]


@pytest.mark.parametrize("triplet_range", [4.0, None], ids=["pruned", "all triplets"])
def test_distances_of_just_the_triplet_range_or_the_cutoff_turn_alike(triplet_range: float | None) -> None:
    """Cubic cells of 4 Å and 6 Å have many; each would be in or out as its rounding errors are."""
    potential = build_network(RANKS)
    legs = Atoms("SiO3", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.03], [0.5, 0.03, 0.5], [0.03, 0.5, 0.5]], cell=[4.0] * 3, pbc=True)
    edges = Atoms("SiO2", positions=[[0, 0, 0], [1.6, 0, 0], [-1.6, 0.2, 0]], cell=[6.0] * 3, pbc=True)
    for atoms in (legs, edges):
        graphs = [connected([frame], 80, triplet_range) for frame in (atoms, turned(atoms))]
        assert graphs[0].edge_index.shape == graphs[1].edge_index.shape
        assert graphs[0].triplets.shape == graphs[1].triplets.shape
        before, after = (potential(graph) for graph in graphs)
        for name in RANKS:
            assert relative(after[name], rotate(before[name])) < 1e-11, name


@pytest.mark.parametrize("case", CASES, ids=str)
def test_neither_the_batch_nor_a_translation_nor_the_choice_of_images_changes_a_tensor(case: Case) -> None:
    frames = [silica(seed) for seed in range(3)]
    potential, graph, _ = build_tensor_case(case, frames)
    moved = frames[2].copy()
    moved.positions += [3.1, -7.7, 12.3]
    moved.wrap()
    alone, together = potential(etgnn().collate([moved]))[BORN], potential(graph)[BORN]
    torch.testing.assert_close(alone, together[graph.batch == 2], rtol=0, atol=1e-11)


@pytest.mark.parametrize("amplitude", [0.1, 0.0], ids=["rattled", "shells of equal distances"])
def test_permuting_atoms_permutes_tensors(amplitude: float) -> None:
    atoms = silica(amplitude=amplitude)
    order = np.random.default_rng(2).permutation(len(atoms))
    potential = build_network(RANKS)
    # Seven is within a shell of the oxygen atoms: only a whole shell treats its atoms alike.
    before, after = potential(connected([atoms], 7)), potential(connected([atoms[order]], 7))
    for name in RANKS:
        torch.testing.assert_close(after[name], before[name][torch.as_tensor(order)], rtol=0, atol=1e-12)


def test_a_supercell_has_the_tensors_of_its_cell() -> None:
    atoms = silica()
    model = etgnn(labels=["born_effective_charges", "dielectric_tensor"], hidden=32, max_neighbours=12)
    potential, graph = build_model(model, [atoms], torch.float32)
    small, large = potential(graph), potential(model.collate([atoms.repeat((2, 1, 1))]))
    torch.testing.assert_close(large[BORN], small[BORN].repeat(2, 1, 1), rtol=0, atol=1e-6 * float(small[BORN].abs().max()))
    torch.testing.assert_close(large["dielectric_tensor"], small["dielectric_tensor"], rtol=1e-6, atol=1e-6)


def test_the_dielectric_tensor_is_the_mean_of_a_tensor_of_atoms() -> None:
    frames = [silica(), silica(1).repeat((2, 1, 1))]
    potential = build_network({"atoms": TensorTarget(2, "atom"), "cell": TensorTarget(2, "structure")})
    heads = potential.upstream.heads
    heads["cell"].load_state_dict(heads["atoms"].state_dict())
    graph = connected(frames)
    output = potential(graph)
    assert output["cell"].shape == (2, 3, 3)
    for index in range(2):
        torch.testing.assert_close(output["cell"][index], output["atoms"][graph.batch == index].mean(0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_born_charges_add_up_to_zero_in_each_structure_unless_the_sum_rule_is_off(case: Case) -> None:
    frames = [silica(seed).repeat((1, 1, 1 + seed)) for seed in range(2)]
    with_rule, graph, _ = build_tensor_case(case, frames, torch.float32)
    charges = with_rule(graph)[BORN]
    assert charges.abs().max() > 0.1
    assert torch.zeros(2, 3, 3, dtype=torch.float64).index_add(0, graph.batch, charges).abs().max() <= 1e-6
    without, _, _ = build_tensor_case(case, frames, torch.float32, etgnn(acoustic_sum_rule=False))
    assert torch.zeros(2, 3, 3, dtype=torch.float64).index_add(0, graph.batch, without(graph)[BORN]).abs().max() > 1e-2


def test_triplets_make_a_born_charge_asymmetric_and_edges_do_not() -> None:
    potential = build_network({BORN: TensorTarget(2, "atom")})
    graph = connected([silica()])
    charges = potential(graph)[BORN]
    assert float((charges - charges.transpose(1, 2)).abs().max()) > 1e-2 * float(charges.abs().max())
    last = potential.upstream.heads[BORN].triplet.layers[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.zero_()
    edges_alone = potential(graph)[BORN]
    assert float(edges_alone.abs().max()) > 0
    torch.testing.assert_close(edges_alone, edges_alone.transpose(1, 2), rtol=0, atol=1e-14)


def test_symmetry_of_the_crystal_is_symmetry_of_its_tensors() -> None:
    """Quartz turned by 120° about c is itself: with whole shells the charges of silicon are each other's, turned."""
    atoms = silica(amplitude=0.0)
    potential = build_network({BORN: TensorTarget(2, "atom")})
    total = potential(connected([atoms], 7))[BORN].sum(0)
    turn = torch.as_tensor(Rotation.from_euler("z", 120, degrees=True).as_matrix())
    torch.testing.assert_close(turn @ total @ turn.T, total, rtol=0, atol=1e-9)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_atoms_without_edges_or_triplets_have_tensors_too(case: Case) -> None:
    potential, _, _ = build_tensor_case(case, [silica()])
    lone, pair = Atoms("O", positions=[[0.3, 0.2, 0.1]]), Atoms("SiO", positions=[[0, 0, 0], [0, 0, 1.6]])
    far = Atoms("SiO", positions=[[0, 0, 0], [0, 0, 5.0]])
    chain = Atoms("OSiO", positions=[[0, 0, -1.6], [0, 0, 0], [0, 0, 1.6]])
    model = etgnn(acoustic_sum_rule=False)
    graph = model.collate([lone, pair, far, chain])
    charges = potential(graph)[BORN]
    assert torch.isfinite(charges).all()
    assert torch.equal(charges[0], torch.zeros(3, 3, dtype=torch.float64))
    for atoms, rows in ((lone, slice(0, 1)), (pair, slice(1, 3)), (far, slice(3, 5)), (chain, slice(5, 8))):
        torch.testing.assert_close(potential(model.collate([atoms]))[BORN], charges[rows], rtol=0, atol=1e-12)


def test_gradients_of_collinear_triplets_are_finite() -> None:
    """The angle has no derivative at 0 and π; its cosine has."""
    potential = build_network(RANKS).train()
    chain = Atoms("OSiOSi", positions=[[0, 0, 1.6 * n] for n in range(4)], cell=[9, 9, 6.4], pbc=True)
    graph = connected([chain])
    assert graph.triplets.shape[1] > 0
    positions = graph.positions.clone().requires_grad_(True)
    output = potential(replace(graph, positions=positions))
    gradients = torch.autograd.grad(sum(value.square().sum() for value in output.values()), [positions, *potential.parameters()])
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
