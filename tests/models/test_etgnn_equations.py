"""The network against its equations, written down without any of its shortcuts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.special import spherical_jn

from kanmlip.models.etgnn.tensor_heads import TensorTarget
from tests.models.etgnn_equations import born_charges, edges_of
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
