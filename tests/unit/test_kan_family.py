"""What compiled kernels are told of a basis, what its functions are by their papers' formulas, and how smooth they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.polynomial import chebyshev, hermite
from numpy.polynomial.polynomial import polyder, polyval
from numpy.typing import NDArray
from torch import Tensor

from kanmlip.kan import AdaptiveGaussian, Basis, BSpline, Chebyshev, Gaussian, ReLUPower, TruncatedPower
from kanmlip.kan.family import Family, Gaussians, LocalPolynomials, Waves
from tests.unit.test_kan_basis import BASES, SIZES, many_points, written

Array = NDArray[np.float64]


def made_of(family: Family, x: Array, order: int, shape: Array | None) -> Array:
    """φ_k⁽ᵈ⁾(x), [M] → [M, K], from a family's numbers alone."""
    if isinstance(family, LocalPolynomials):
        return local_polynomials(family, x, order)
    if isinstance(family, Gaussians):
        centres, inverse_widths = (family.centres, family.inverse_widths) if shape is None else shape
        s = np.asarray(inverse_widths)
        u = (x[:, None] - np.asarray(centres)) * s
        return (-s) ** order * hermite.hermval(u, [0] * order + [1]) * np.exp(-(u**2))
    k = np.arange(1, family.size + 1)
    if isinstance(family, Waves):
        k = k[: family.size // 2] * family.frequency
        phase = k * x[:, None] + order * np.pi / 2
        return np.concatenate([np.cos(phase), np.sin(phase)], axis=1) * np.tile(k**order, 2)
    return np.stack([squashed_chebyshev(x, n, family.width, order) for n in k], axis=1)


def local_polynomials(family: LocalPolynomials, x: Array, order: int) -> Array:
    result = np.zeros((len(x), family.size))
    for row, t in enumerate((x - family.start) / family.spacing):
        j = int(np.floor(t))
        for m, piece in enumerate(family.pieces):
            if 0 <= (k := j - len(family.pieces) + 1 + m) < family.size:
                result[row, k] = polyval(t - j, polyder(piece, order)) / family.spacing**order
    return result


def squashed_chebyshev(x: Array, n: int, width: float, order: int) -> Array:
    """By the chain rule from the polynomial's own derivatives by u = tanh(x/width)."""
    u = np.tanh(x / width)
    coefficients = [0] * n + [1]
    first, second, third = (chebyshev.chebval(u, chebyshev.chebder(coefficients, d)) for d in (1, 2, 3))
    du, ddu = (1 - u**2) / width, -2 * u * (1 - u**2) / width**2
    dddu = (6 * u**2 - 2) * (1 - u**2) / width**3
    if order < 2:
        return first * du if order else chebyshev.chebval(u, coefficients)
    return second * du**2 + first * ddu if order == 2 else third * du**3 + 3 * second * du * ddu + first * dddu


def double(basis: Basis) -> Basis:
    """In float64; learnable functions away from where they start."""
    basis = basis.double().requires_grad_(False)
    for value in basis.parameters():
        value.add_(0.1 * torch.sin(3 * torch.arange(len(value), dtype=torch.float64)))
    return basis


@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "basis", [*(c() for c in BASES), *SIZES], ids=lambda basis: f"{type(basis).__name__}{tuple(basis.arguments().values())}"
)
def test_family_reproduces_evaluate(basis: Basis, order: int) -> None:
    basis = double(basis)
    family, mixing, shape = basis.kernel().family(), basis.mixing(), basis.shape()
    assert family is not None
    assert family.size == basis.kernel().num_basis
    x = many_points(torch.float64).flatten() + 0.0123
    values = made_of(family, x.numpy(), order, None if shape is None else shape.numpy())
    if mixing is not None:
        values = values @ mixing.numpy()
    reference = basis.evaluate(x, order).numpy()
    # Waves at 1e4 have rounded angles; everything else is exact to a few roundings of its largest value.
    tolerance = 2e-11 if isinstance(family, Waves) else 2e-13
    np.testing.assert_allclose(values, reference, rtol=0, atol=tolerance * max(1.0, np.abs(reference).max()))


def jump(basis: Basis, order: int) -> float:
    """Largest change of any φ_k⁽ᵈ⁾ across a knot, in units of its largest size."""
    family = basis.kernel().family()
    assert isinstance(family, LocalPolynomials)
    knots = family.start + family.spacing * torch.arange(family.size + len(family.pieces), dtype=torch.float64)
    sides = [basis.evaluate(knots + side, order) for side in (-1e-9, 1e-9)]
    return float((sides[1] - sides[0]).abs().max() / sides[0].abs().max().clamp_min(1e-300))


@pytest.mark.parametrize(
    "basis",
    [*(BSpline(5, order) for order in (2, 3, 4, 5)), *(ReLUPower(5, order) for order in (1, 2, 3, 4, 5)), TruncatedPower()],
    ids=lambda basis: f"{type(basis).__name__}-{basis.smoothness}",
)
def test_smoothness_is_the_number_of_continuous_derivatives(basis: Basis) -> None:
    basis = basis.double()
    smoothness = int(basis.smoothness)
    for order in range(min(smoothness, 3) + 1):
        assert jump(basis, order) < 1e-6
    if smoothness < 3:
        assert jump(basis, smoothness + 1) > 0.1


def test_relu_equals_the_papers_formula() -> None:
    basis = ReLUPower(6, 2, -1.0, 2.0).double()
    x = torch.linspace(-4, 5, 301, dtype=torch.float64)
    for k in range(basis.num_basis):
        start = -1.0 + 0.5 * (k - 3)
        end = start + 4 * 0.5
        expected = (torch.relu(end - x) * torch.relu(x - start)).square() * 16 / (end - start) ** 4
        torch.testing.assert_close(basis(x)[:, k], expected, rtol=1e-13, atol=1e-14)
    assert float(basis(torch.tensor(0.5, dtype=torch.float64)).max()) == pytest.approx(1.0, abs=1e-14)


def test_chebyshev_equals_the_definition() -> None:
    basis = Chebyshev(12, 1.5).double()
    x = torch.linspace(-4, 4, 81, dtype=torch.float64)
    angle = torch.arccos(torch.tanh(x / 1.5)).unsqueeze(-1)
    torch.testing.assert_close(basis(x), torch.cos(angle * torch.arange(1, 13)), rtol=0, atol=1e-12)


def test_chebyshev_of_high_degree_is_accurate_in_float32() -> None:
    """The three-term recurrence in u loses n² roundings near u = ±1: 1.5e-5 at degree 20."""
    x = torch.linspace(-12, 12, 4001)
    exact = Chebyshev(20).double().evaluate(x.double())
    assert (Chebyshev(20).evaluate(x) - exact).abs().max() < 3e-6
    assert (written(Chebyshev(20), x.unsqueeze(0), (0,))[0][0] - exact).abs().max() < 3e-6


@pytest.mark.parametrize("grid", [1, 2, 5, 100])
@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_truncated_powers_equal_the_explicit_formula_on_the_grid(grid: int, order: int) -> None:
    lower, upper = -2.0, 3.0
    basis = TruncatedPower(grid, lower, upper).double()
    h = (upper - lower) / grid
    # Off the knots, where the third derivative jumps, and near both ends.
    x = lower + (upper - lower) * (torch.arange(3333, dtype=torch.float64) + 0.3712) / 3333
    expected = [polyval(x.numpy(), polyder([0] * n + [1], order)) * np.ones(len(x)) for n in range(4)]
    for i in range(1, grid):
        u = np.maximum(x.numpy() - (lower + i * h), 0)
        expected.append((u**3, 3 * u**2, 6 * u, 6.0 * (u > 0))[order])
    # Each function has a constant factor; take it from the value at the grid's right end.
    end = [upper**n for n in range(4)] + [(upper - lower - i * h) ** 3 for i in range(1, grid)]
    factors = basis(torch.tensor(upper, dtype=torch.float64)).numpy() / np.array(end)
    ours = basis.evaluate(x, order).numpy()
    assert ours.shape == (3333, grid + 3)
    np.testing.assert_allclose(ours, np.stack(expected, axis=1) * factors, rtol=0, atol=1e-11 / h**order)


@pytest.mark.parametrize("grid", [1, 2, 5, 100])
def test_truncated_powers_nowhere_exceed_one(grid: int) -> None:
    sizes = TruncatedPower(grid).double()(torch.linspace(-30, 30, 60001, dtype=torch.float64)).abs().amax(0)
    assert (sizes <= 1 + 1e-14).all()
    assert (sizes > 0.5).all()


@pytest.mark.parametrize("grid", [5, 100])
def test_truncated_powers_do_not_cancel_in_float32(grid: int) -> None:
    """Rough functions of order one need weights of size 1e6 at grid 100; as powers in float32 their sums are off by 1e-2 to 1."""
    basis = TruncatedPower(grid)
    mixing = basis.mixing()
    assert mixing is not None
    generator = torch.Generator().manual_seed(0)
    coefficients = torch.randn(grid + 3, 8, generator=generator, dtype=torch.float64)
    weights = torch.linalg.solve(mixing, coefficients).float()
    x = 2.5 * torch.randn(2000, generator=generator).clamp(-1.2, 1.2)
    mixed = mixing @ weights.double()
    exact = basis.kernel().double().evaluate(x.double()) @ mixed
    scale = exact.abs().max()
    ours = basis.kernel().float().evaluate(x) @ mixed.float()
    assert (ours - exact).abs().max() < 1e-5 * scale
    naive = basis.double().evaluate(x.double()).float() @ weights
    assert (naive - exact).abs().max() > (1e-3 if grid == 100 else 1e-7) * scale


def test_truncated_powers_are_mixed_in_float64_whatever_the_dtype() -> None:
    basis = TruncatedPower(20)
    for dtype in (torch.float32, torch.float16, torch.float64):
        mixing = basis.to(dtype).mixing()
        assert mixing is not None
        assert torch.equal(mixing, basis.constants()["matrix"])


@pytest.mark.parametrize("grid", [5, 100])
def test_truncated_powers_themselves_are_accurate_in_float32(grid: int) -> None:
    x = torch.linspace(-6, 6, 2001)
    weights = torch.randn(grid + 3, 8, generator=torch.Generator().manual_seed(0))
    exact = TruncatedPower(grid).double().evaluate(x.double()) @ weights.double()
    for values in (TruncatedPower(grid).evaluate(x), written(TruncatedPower(grid), x.unsqueeze(0), (0,))[0][0]):
        assert (values @ weights - exact).abs().max() < 1e-5 * exact.abs().max()


def test_adaptive_gaussian_starts_as_gaussian() -> None:
    x = many_points(torch.float64)
    fixed, learnable = Gaussian(7, -2.0, 4.0).double(), AdaptiveGaussian(7, -2.0, 4.0)
    torch.testing.assert_close(learnable.double()(x).detach(), fixed(x), rtol=1e-6, atol=1e-6)


def test_adaptive_gaussian_is_differentiable_in_its_shape() -> None:
    basis = AdaptiveGaussian(3).double()
    x = torch.tensor([-1.0, 0.0, 2.5], dtype=torch.float64, requires_grad=True)

    def function(x: Tensor, centres: Tensor, widths: Tensor) -> Tensor:
        values = {"centres": centres, "log_inverse_widths": widths}
        result = torch.func.functional_call(basis, values, (x,))
        assert isinstance(result, Tensor)
        return result

    arguments = (x, basis.centres, basis.log_inverse_widths)
    assert torch.autograd.gradcheck(function, arguments)
    assert torch.autograd.gradgradcheck(function, arguments)


def test_adaptive_gaussian_writes_the_shape_it_is_given() -> None:
    basis, other = AdaptiveGaussian(4).double(), double(AdaptiveGaussian(4))
    x = many_points(torch.float64)
    for order in (0, 1, 2, 3):
        out = x.new_empty(x.shape[0], 4, x.shape[1])
        basis.write(x, (order,), (out,), other.shape())
        torch.testing.assert_close(out.transpose(1, 2), other.evaluate(x, order), rtol=0, atol=1e-12)


def test_adaptive_gaussian_keeps_its_parameters_on_a_change_of_dtype() -> None:
    basis = AdaptiveGaussian(4)
    with torch.no_grad():
        basis.centres.add_(0.5)
    before = basis.centres.detach().clone()
    torch.testing.assert_close(basis.double().centres.detach(), before.double(), rtol=0, atol=0)
    torch.testing.assert_close(basis.float().centres.detach(), before, rtol=0, atol=0)
    assert {name for name, _ in basis.named_parameters()} == {"centres", "log_inverse_widths"}
