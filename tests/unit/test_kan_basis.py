"""Every basis exported from kanmlip.kan: values, closed-form derivatives, smoothness, and its fast in-place form."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
import yaml
from scipy.interpolate import BSpline as ScipyBSpline
from torch import Tensor

import kanmlip.kan
from kanmlip.kan import AdaptiveGaussian, Basis, BSpline, Chebyshev, Fourier, Gaussian, ReLUPower, TruncatedPower
from kanmlip.kan.local import _addresses

# The one list that every KAN test is parametrised over: a basis exported from kanmlip.kan is picked up by itself.
BASES: list[type[Basis]] = [
    value
    for name in kanmlip.kan.__all__
    if inspect.isclass(value := getattr(kanmlip.kan, name)) and issubclass(value, Basis) and value is not Basis
]
each_basis = pytest.mark.parametrize("basis_class", BASES)
# Inside, at zero, at both grid ends, where splines end, and far outside.
POINTS = torch.tensor([-1e4, -40.0, -9.0, -6.6, -3.0, -1.8, -0.6, 0.0, 1e-3, 0.6, 1.3, 3.0, 5.4, 6.6, 9.5, 30.0, 1e4], dtype=torch.float64)


def written(basis: Basis, x: Tensor, orders: tuple[int, ...]) -> list[Tensor]:
    """What ``write`` gives for x [n, in], as [n, in, K], from memory full of NaN."""
    outs = [x.new_full((x.shape[0], basis.num_basis + 2 * basis.padding(orders), x.shape[1]), torch.nan) for _ in orders]
    basis.write(x, orders, outs)
    pad = basis.padding(orders)
    return [out[:, pad : pad + basis.num_basis].transpose(1, 2) for out in outs]


def many_points(dtype: torch.dtype) -> Tensor:
    random = 3 * torch.randn(40, 17, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.cat([random, POINTS.expand(2, -1)]).to(dtype)


def test_all_bases_are_found() -> None:
    assert {Gaussian, BSpline, Fourier, Chebyshev, TruncatedPower, ReLUPower, AdaptiveGaussian} <= set(BASES)


@each_basis
@pytest.mark.parametrize("order", [1, 2, 3])
def test_closed_form_derivatives_are_those_of_autograd(basis_class: type[Basis], order: int) -> None:
    basis = basis_class().double()
    # Off the knots: a cubic spline's third derivative jumps there.
    x = (POINTS + 0.0123).requires_grad_()
    lower = basis.evaluate(x, order - 1)
    columns = [torch.autograd.grad(lower[:, k].sum(), x, retain_graph=True)[0] for k in range(basis.num_basis)]
    torch.testing.assert_close(basis.evaluate(x, order).detach(), torch.stack(columns, -1), rtol=1e-10, atol=1e-11)


@each_basis
def test_autograd_of_the_values_alone_gives_all_derivatives(basis_class: type[Basis]) -> None:
    """What the reference form of a layer does: only ``evaluate(x, 0)`` is written down, PyTorch does the rest."""
    basis = basis_class().double()
    x = (POINTS + 0.0123).requires_grad_()
    for k in range(basis.num_basis):
        result = basis.evaluate(x)[:, k]
        for order in (1, 2, 3):
            (result,) = torch.autograd.grad(result.sum(), x, create_graph=True)
            torch.testing.assert_close(result, basis.evaluate(x, order)[:, k], rtol=1e-9, atol=1e-10)


@each_basis
def test_double_backward_at_exactly_zero(basis_class: type[Basis]) -> None:
    """Allegro's latents are exactly zero at the cutoff; |x| in a formula would give a wrong second derivative there."""
    basis = basis_class().double()
    centres = getattr(basis.kernel(), "centres", torch.zeros(1, dtype=torch.float64))
    x = centres.detach().clone().requires_grad_()
    slope = torch.autograd.grad(basis(x).sum(), x, create_graph=True)[0]
    curvature = torch.autograd.grad(slope.sum(), x)[0]
    torch.testing.assert_close(curvature, basis.evaluate(x, 2).sum(-1).detach())


@each_basis
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_each_function_by_itself_is_evaluate(basis_class: type[Basis], dtype: torch.dtype, tolerance: float) -> None:
    """What compilers are given, with the derivatives that autograd makes of it, near and far."""
    basis = basis_class().to(dtype)
    x = (many_points(dtype) + 0.0123).requires_grad_()  # off the knots, where third derivatives jump
    for k, function in enumerate(basis.each(x)):
        values = function
        for order in range(4):
            if order:
                (values,) = torch.autograd.grad(values.sum(), x, create_graph=True)
            expected = basis.evaluate(x.detach(), order).detach()[..., k]
            torch.testing.assert_close(values.detach(), expected, rtol=tolerance, atol=tolerance * float(expected.abs().max()))


@each_basis
@pytest.mark.parametrize("orders", [(0,), (1,), (0, 1), (1, 2), (2, 3), (0, 1, 2, 3)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 2e-13), (torch.float32, 2e-5)])
def test_write_equals_evaluate(basis_class: type[Basis], orders: tuple[int, ...], dtype: torch.dtype, tolerance: float) -> None:
    basis = basis_class().to(dtype)
    x = many_points(dtype)
    if 3 in orders:
        x = x + 0.0123
    if basis_class is Fourier:  # at 1e4 the angle kωx itself is rounded
        x = x[x.abs().amax(1) < 100]
    for out, order in zip(written(basis, x, orders), orders, strict=True):
        reference = basis.evaluate(x, order).detach()
        torch.testing.assert_close(out, reference, rtol=0, atol=tolerance * max(1.0, float(reference.abs().max())))


SIZES: list[Basis] = [
    *(Gaussian(n) for n in (2, 3, 9, 20)),
    *(BSpline(grid, order) for grid in (1, 3, 20) for order in (2, 3, 4, 5)),
    *(ReLUPower(grid, order) for grid in (1, 3, 20) for order in (1, 2, 3, 4, 5)),
    *(TruncatedPower(grid) for grid in (1, 2, 20)),
    AdaptiveGaussian(2),
    Fourier(1),
    Chebyshev(1),
    Chebyshev(20),
]


@pytest.mark.parametrize("basis", SIZES, ids=lambda basis: f"{type(basis).__name__}{tuple(basis.arguments().values())}")
def test_write_for_other_sizes(basis: Basis) -> None:
    """Together and in the parts that passes ask for, which a basis may work out in another way."""
    basis = basis.double()
    x = many_points(torch.float64) + 0.0123 * (basis.smoothness < 2)
    for orders in ((0, 1, 2), (0,), (1,), (1, 2), (0, 2)):
        for out, order in zip(written(basis, x, orders), orders, strict=True):
            torch.testing.assert_close(out, basis.evaluate(x, order).detach(), rtol=1e-12, atol=1e-12)


def test_addresses_are_the_same_in_floating_point_and_in_integers() -> None:
    """float16 counts to 2,048 only, so that it has to leave the counting to integers."""
    left = torch.randint(0, 11, (9, 20)).double()
    expected = (torch.arange(9).unsqueeze(1) * 14 + left.long()) * 20 + torch.arange(20)
    for dtype in (torch.float64, torch.float32, torch.float16):
        assert torch.equal(_addresses(left.to(dtype, copy=True), 14), expected)


@pytest.mark.parametrize(("grid", "lower", "upper"), [(5, -3.0, 3.0), (3, -1.0, 2.0), (12, 0.0, 1.0)])
@pytest.mark.parametrize(("degree", "order"), [(degree, order) for degree in (2, 3, 4, 5) for order in range(min(degree, 3) + 1)])
def test_bspline_equals_scipy(grid: int, lower: float, upper: float, degree: int, order: int) -> None:
    basis = BSpline(grid, degree, lower, upper).double()
    h = (upper - lower) / grid
    knots = lower + h * np.arange(-degree, grid + degree + 1)
    # Off the knots, where the highest derivatives jump.
    x = torch.linspace(lower - 7 * h, upper + 7 * h, 301, dtype=torch.float64) + 0.0011 * h
    ours = basis.evaluate(x, order)
    for k in range(basis.num_basis):
        spline = ScipyBSpline(knots, np.eye(basis.num_basis)[k], degree, extrapolate=False)
        reference = np.nan_to_num(spline.derivative(order)(x.numpy()) if order else spline(x.numpy()))
        # SciPy's spline space ends at the grid; beyond it compare with one of more knots.
        wide = ScipyBSpline.basis_element(knots[k : k + degree + 2], extrapolate=False)
        outside = np.nan_to_num(wide.derivative(order)(x.numpy()) if order else wide(x.numpy()))
        inside = ((x >= lower) & (x < upper)).numpy()
        np.testing.assert_allclose(ours[:, k].numpy()[inside], reference[inside], atol=1e-12 / h**order)
        np.testing.assert_allclose(ours[:, k].numpy(), outside, atol=1e-12 / h**order)


def test_gaussian_equals_explicit_formula() -> None:
    basis = Gaussian(5, -2.0, 4.0).double()
    for x in (-3.0, -0.3, 0.0, 2.2):
        expected = [np.exp(-(((x - (-2.0 + 1.5 * k)) / 1.5) ** 2)) for k in range(5)]
        np.testing.assert_allclose(basis(torch.tensor(x, dtype=torch.float64)).numpy(), expected, rtol=1e-14)


def test_fourier_equals_explicit_formula() -> None:
    basis = Fourier(3, period=5.0).double()
    for x in (-3.0, -0.3, 0.0, 2.2):
        angles = 2 * np.pi / 5.0 * x * np.arange(1, 4)
        np.testing.assert_allclose(basis(torch.tensor(x, dtype=torch.float64)).numpy(), [*np.cos(angles), *np.sin(angles)], atol=1e-14)


@each_basis
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_far_outside_the_grid(basis_class: type[Basis], dtype: torch.dtype) -> None:
    basis = basis_class().to(dtype)
    x = torch.tensor([[-1e30, -1e6, -300.0, -60.0, 60.0, 300.0, 1e6, 1e30]], dtype=dtype)
    for order, out in enumerate(written(basis, x, (0, 1, 2, 3))):
        assert torch.isfinite(out).all()
        assert out.abs().max() < 1e3
        if not isinstance(basis, Gaussian):  # whose polynomials overflow beyond 1e19
            assert torch.isfinite(basis.evaluate(x, order)).all()


@each_basis
def test_twice_continuously_differentiable(basis_class: type[Basis]) -> None:
    """Second differences of φ'' vanish with the step on a fine scan from far left to far right of the grid."""
    basis = basis_class().double().requires_grad_(False)
    assert basis.smoothness >= 2
    bound = basis.evaluate(torch.linspace(-15, 15, 30001, dtype=torch.float64), 3).abs().max()
    for step in (1e-2, 1e-3, 1e-4):
        x = torch.arange(-15, 15, step, dtype=torch.float64).unsqueeze(0)
        for order in (0, 1, 2):
            value, slope = (written(basis, x, (order,))[0][0], written(basis, x, (order + 1,))[0][0])
            assert (value[1:] - value[:-1]).abs().max() <= 1.01 * step * max(slope.abs().max(), bound)


@pytest.mark.parametrize(
    "basis", [*(basis_class() for basis_class in BASES), BSpline(20)], ids=lambda basis: f"{type(basis).__name__}{basis.num_basis}"
)
def test_nan_stays_nan_and_is_no_address(basis: Basis) -> None:
    x = torch.tensor([[0.5, torch.nan, torch.inf], [1.0, -1.0, 0.0]])
    out = written(basis, x, (0,))[0]
    assert torch.isnan(out[0, 1]).any()
    torch.testing.assert_close(out[1], basis(x[1]).detach(), rtol=0, atol=1e-6)


@each_basis
def test_constants_are_exact_after_a_change_of_dtype(basis_class: type[Basis]) -> None:
    basis = basis_class()
    once = {name: buffer.clone() for name, buffer in basis_class().double().named_buffers()}
    again = dict(basis.half().float().double().named_buffers())
    assert once.keys() == again.keys()
    for name, value in once.items():
        assert torch.equal(value, again[name])
        owner, _, own_name = name.rpartition(".")
        assert torch.equal(value, cast("Basis", basis.get_submodule(owner)).constants()[own_name])


@each_basis
def test_any_shape_and_no_state_but_parameters(basis_class: type[Basis]) -> None:
    basis = basis_class()
    for shape in [(), (4,), (2, 3, 5), (0, 3)]:
        assert basis(torch.zeros(shape)).shape == (*shape, basis.num_basis)
    names = [name for name, _ in basis.named_parameters()]
    assert list(basis.state_dict()) == names
    assert bool(names) == (basis.shape() is not None)


@each_basis
def test_initial_profile_keeps_slopes_down(basis_class: type[Basis]) -> None:
    """Forces see Σ σ_k² E[φ'²]: it stays within a few times Σ σ_k² Var[φ], however many functions there are."""
    basis = basis_class().double().requires_grad_(False)
    z = torch.randn(20000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights = basis.initial_profile().square()
    slope = (weights * basis.evaluate(z, 1).square().mean(0)).sum()
    assert slope / (weights * basis(z).var(0)).sum() < 6


@each_basis
def test_fourth_derivative_is_refused_with_a_way_out(basis_class: type[Basis]) -> None:
    with pytest.raises(NotImplementedError, match=r"derivative=4.*reference"):
        basis_class().evaluate(torch.zeros(2), 4)


@pytest.mark.parametrize(
    ("basis_class", "arguments", "message"),
    [
        (Gaussian, {"num_basis": 1}, "num_basis=1 is too small"),
        (Gaussian, {"grid_min": 1.0, "grid_max": 1.0}, "grid_min=1.0 must be less than grid_max=1.0"),
        (BSpline, {"order": 1}, "order=1 is not known; choose from: 2, 3, 4, 5"),
        (BSpline, {"grid": 0}, "grid=0 is too small"),
        (Fourier, {"num_waves": 0}, "num_waves=0 is too small"),
        (Fourier, {"period": 0.0}, "period=0.0 must be positive"),
        (Chebyshev, {"degree": 0}, "degree=0 is too small"),
        (Chebyshev, {"width": -1.0}, "width=-1.0 must be positive"),
        (TruncatedPower, {"grid": 0}, "grid=0 is too small"),
        (ReLUPower, {"order": 0}, "order=0 is not known; choose from: 1, 2, 3, 4, 5"),
        (ReLUPower, {"grid_min": 3.0}, "grid_min=3.0 must be less than grid_max=3.0"),
        (AdaptiveGaussian, {"num_basis": 1}, "num_basis=1 is too small"),
    ],
)
def test_bad_arguments(basis_class: type[Basis], arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        basis_class(**arguments)


@each_basis
def test_each_basis_has_a_config_that_builds_it(basis_class: type[Basis], repository: Path) -> None:
    files = [yaml.safe_load(path.read_text()) for path in (repository / "conf" / "basis").glob("*.yaml")]
    config = next(c for c in files if c.get("_target_", "").endswith(f".{basis_class.__name__}"))
    module, _, name = config.pop("_target_").rpartition(".")
    assert config.pop("name")
    assert config.pop("backend") == "auto"
    # Every argument is named in the file, so that it can be overridden without a plus sign, and the values are the defaults.
    assert config == {key: p.default for key, p in inspect.signature(basis_class).parameters.items()}
    assert isinstance(getattr(importlib.import_module(module), name)(**config), basis_class)
