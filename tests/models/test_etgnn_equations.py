"""The network against its equations, written down without any of its shortcuts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.special import spherical_jn

from kanmlip.models.etgnn.tensor_heads import TensorTarget
from tests.models.etgnn_equations import born_charges, edges_of, radial
from tests.models.tensors import BORN, SIZES, build_network, connected, silica


def zeros_by_search(orders: int, count: int) -> np.ndarray:
    """Zeros of j_l where a fine grid shows a change of sign."""
    grid = np.linspace(1e-3, 60, 60001)
    rows = []
    for order in range(orders):
        values = spherical_jn(order, grid)
        changes = np.flatnonzero(np.sign(values[1:]) != np.sign(values[:-1]))
        changes = changes[grid[changes] > order]  # below its order j_l is positive, down to rounding errors near zero
        rows.append([brentq(lambda z, n=order: spherical_jn(n, z), grid[k], grid[k + 1], xtol=1e-14) for k in changes[:count]])
    return np.array(rows)


ZEROS = zeros_by_search(SIZES.num_spherical, SIZES.num_radial)


@pytest.mark.parametrize("legacy", [False, True], ids=["", "legacy cutoff"])
def test_born_charges_equal_those_of_the_equations(legacy: bool) -> None:
    atoms = silica()
    potential = build_network({BORN: TensorTarget(2, "atom")}, legacy_cutoff=legacy)
    expected = born_charges(potential.upstream, atoms, edges_of(atoms, 6.0, 8), ZEROS, BORN, legacy)
    assert float(expected.abs().max()) > 0.1
    torch.testing.assert_close(potential(connected([atoms], 8))[BORN], expected, rtol=0, atol=1e-10 * float(expected.abs().max()))


def test_tensors_of_the_other_ranks_equal_those_of_the_equations() -> None:
    """From the features that Born charges are read from; equivariance would let a wrong direction or product pass."""
    atoms = silica()
    potential = build_network({f"rank{rank}": TensorTarget(rank, "atom") for rank in (0, 1, 3)})
    network, graph = potential.upstream, connected([atoms])
    with torch.no_grad():
        features = network.features(potential.geometry(graph), potential.species(graph))
        assert features.triplets is not None
        scalars = {name: network.heads[name].edge(features.edges) for name in ("rank1", "rank3")}
        of_triplets = network.heads["rank3"].triplet(features.triplets)
    source, target = graph.edge_index.numpy()
    vectors = atoms.positions[target] - atoms.positions[source] + graph.edge_cell_shift.numpy() @ atoms.cell[:]
    distances = np.linalg.norm(vectors, axis=1)
    units = torch.as_tensor(vectors / distances[:, None])
    nodes, vector, tensor = (torch.zeros(9, *shape, dtype=torch.float64) for shape in ((SIZES.hidden,), (3,), (3, 3, 3)))
    of_nodes = network.edge_totals[0]
    gates = of_nodes.radial(radial(network, distances)).detach()
    for edge, (i, e) in enumerate(zip(target, units, strict=True)):
        nodes[i] += gates[edge] * features.edges[edge]
        vector[i] += scalars["rank1"][edge] * e
        tensor[i] += scalars["rank3"][edge] * torch.einsum("a,b,c->abc", e, e, e)
    for (first, second), c in zip(graph.triplets.T.tolist(), of_triplets, strict=True):
        u, v = units[first], units[second]
        for product, scalar in zip(((u, v, v), (v, u, v), (v, v, u)), c, strict=True):
            tensor[target[first]] += scalar * torch.einsum("a,b,c->abc", *product)
    with torch.no_grad():
        scalar = network.heads["rank0"].node(of_nodes.up(nodes)).squeeze(1)
    for name, expected in {"rank0": scalar, "rank1": vector, "rank3": tensor}.items():
        torch.testing.assert_close(potential(graph)[name], expected, rtol=0, atol=1e-10 * float(expected.abs().max()))


def test_the_legacy_cutoff_changes_the_tensors() -> None:
    graph = connected([silica()])
    plain, legacy = (build_network({BORN: TensorTarget(2, "atom")}, legacy_cutoff=flag)(graph)[BORN] for flag in (False, True))
    assert float((plain - legacy).abs().max()) > 1e-3 * float(plain.abs().max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_leaving_out_triplets_beyond_the_range_changes_no_tensor(dtype: torch.dtype) -> None:
    frames = [silica(seed) for seed in range(3)]
    potential = build_network({BORN: TensorTarget(2, "atom")}, dtype)
    pruned, whole = connected(frames, 40), connected(frames, 40, None)
    assert 1.5 * pruned.triplets.shape[1] < whole.triplets.shape[1]
    assert torch.equal(pruned.edge_index, whole.edge_index)
    charges = potential(whole)[BORN]
    torch.testing.assert_close(potential(pruned)[BORN], charges, rtol=0, atol=1e-6 * float(charges.abs().max()))


def test_triplets_just_inside_the_range_do_count() -> None:
    graph = connected([silica()], 40)
    potential = build_network({BORN: TensorTarget(2, "atom")})
    shorter = build_network({BORN: TensorTarget(2, "atom")}, triplet_range=3.0)
    change = potential(graph)[BORN] - shorter(graph)[BORN]
    assert float(change.abs().max()) > 1e-3
