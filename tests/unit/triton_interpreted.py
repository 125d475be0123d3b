"""Run by test_kan_triton in a process with TRITON_INTERPRET=1: the kernels' arithmetic, on the CPU."""

from __future__ import annotations

import pytest
import torch

from kanmlip.benchmark.triton_check import BARS, BASES, Case, cases, errors, tensors
from kanmlip.kan import KAN, AdaptiveGaussian, Basis, BSpline, TruncatedPower, backend_triton
from kanmlip.kan.family import Gaussians
from tests.force_training import assert_trains_as_the_reference

each_basis = pytest.mark.parametrize("basis", ["bspline", "gaussian", "adaptive_gaussian", "fourier", "chebyshev"])


@pytest.mark.parametrize("case", cases(), ids=str)
def test_kernels_are_their_definition(case: Case) -> None:
    for name, error in errors(case, "cpu").items():
        assert error <= BARS[case.dtype], name


@each_basis
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_gives_exactly_zero(basis: str, dtype: torch.dtype) -> None:
    expansion, _, given = tensors(Case(basis, dtype, 0), "cpu")
    zero, shape = torch.zeros_like(given["x"]), expansion.basis.shape()
    for v in (None, given["v"]):
        assert not backend_triton.contract_output(expansion, zero, v, given["weight"], shape, 0).any()


@pytest.mark.parametrize("basis", ["bspline", "relu"])
@pytest.mark.parametrize("order", [0, 3])
def test_splines_are_exactly_zero_outside(basis: str, order: int) -> None:
    expansion, _, given = tensors(Case(basis, torch.float32, order, base=False, zero_preserving=False), "cpu")
    for x in (-6.7, 6.7, 1e30, -torch.inf, torch.inf):
        outside = torch.full_like(given["x"], x)
        assert not backend_triton.contract_output(expansion, outside, None, given["weight"], None, order).any(), x


@each_basis
@pytest.mark.parametrize("outputs", [3, 17])
def test_nan_is_not_lost(basis: str, outputs: int) -> None:
    """In no order, and in no row but its own."""
    for order in range(4):
        expansion, _, given = tensors(Case(basis, torch.float32, order, outputs=outputs, base=False), "cpu")
        given["x"][7, 2] = torch.nan
        shape = expansion.basis.shape()
        y = backend_triton.contract_output(expansion, given["x"], None, given["weight"], shape, order).isnan()
        assert bool(y[7].all())
        assert not y[:7].any()
        assert not y[8:].any()
        z = backend_triton.contract_input(expansion, given["x"], given["g"], given["weight"], shape, order).isnan()
        assert z.nonzero().tolist() == [[7, 2]]


def test_weight_gradients_have_the_same_bits_each_time_and_do_not_depend_on_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    from kanmlip.kan.triton import launch

    expansion, exact, given = tensors(Case("gaussian", torch.float64, 0, rows=300), "cpu")
    x, g = given["x"], given["g"]
    monkeypatch.setattr(launch, "_LEAST_TILES", 1)  # as many shares as tiles of rows
    first, again = (backend_triton.contract_weight(expansion, x, None, g, None, 0) for _ in range(2))
    assert torch.equal(first, again)
    right = torch.einsum("nik,no->oki", exact.evaluate(x), g)
    torch.testing.assert_close(first, right, rtol=1e-12, atol=1e-12 * float(right.abs().max()))


def test_shape_may_differ_from_the_basis_own() -> None:
    """The operators' gradients pass centres and widths along; the expansion's own are those of a fresh basis."""
    expansion, _, given = tensors(Case("adaptive_gaussian", torch.float64, 1, base=False, zero_preserving=False), "cpu")
    shape = torch.stack([torch.linspace(-1, 2, 8), torch.linspace(0.3, 2, 8)]).double()
    u = (given["x"].unsqueeze(-1) - shape[0]) * shape[1]
    right = torch.einsum("nik,oki->no", -2 * shape[1] * u * torch.exp(-u.square()), given["weight"])
    found = backend_triton.contract_output(expansion, given["x"], None, given["weight"], shape, 1)
    torch.testing.assert_close(found, right, rtol=1e-12, atol=1e-12 * float(right.abs().max()))
    assert isinstance(BASES["adaptive_gaussian"].family(), Gaussians)


@pytest.mark.parametrize("basis", [BSpline(), AdaptiveGaussian(), TruncatedPower()], ids=lambda basis: type(basis).__name__)
def test_a_layer_trains_on_forces_as_the_reference(basis: Basis) -> None:
    torch.manual_seed(0)
    kan = KAN((3, 16, 1), basis).double()
    start = torch.randn(9, 3, dtype=torch.float64)
    assert_trains_as_the_reference(kan, "triton", start)
