"""Grid updates: the function stays, its state can be loaded, and nothing moves a grid by itself."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import Tensor

from kanmlip.kan import KAN, Basis, BSpline, Chebyshev, Gaussian, KANLayer, ReLUPower, TruncatedPower
from kanmlip.kan.grid_update import change_of_basis, encode, with_grid

SPLINES: list[Basis] = [
    BSpline(),
    BSpline(3, 2),
    BSpline(8, 4),
    BSpline(4, 5),
    BSpline(7, 3, -1.0, 2.5),
    TruncatedPower(),
    TruncatedPower(12),
]
each_spline = pytest.mark.parametrize("basis", SPLINES, ids=lambda basis: f"{type(basis).__name__}{tuple(basis.arguments().values())}")
# Hardly varying, narrower than the grid, off its middle, about its size, beyond its ends, and beyond the support of all functions.
RANGES = [(-0.02, 0.03), (-0.4, 0.3), (0.5, 1.7), (-2.9, 2.9), (-5.0, 4.1), (-12.0, 14.0)]
each_range = pytest.mark.parametrize(("lower", "upper"), RANGES)


def uniform(lower: float, upper: float, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    x = torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * (upper - lower) + lower
    return x.to(dtype)


def make(basis: Basis, widths: tuple[int, ...] = (5, 4), dtype: torch.dtype = torch.float64, **options: object) -> KAN:
    torch.manual_seed(0)
    return KAN(widths, copy.deepcopy(basis), **options).to(dtype)  # type: ignore[arg-type]


def rounding(kan: KAN) -> float:
    """Of a kept function in float64, relative. Truncated powers cancel: their weights are rounded, and some 10⁴ times the function."""
    mixing = kan.layers[0].expansion.basis.mixing()
    return 1e-11 if mixing is None else 1e-11 + 100 * torch.finfo(torch.float64).eps * float(torch.linalg.cond(mixing))


def grid_of(kan: KAN, layer: int = 0) -> tuple[int, float, float]:
    basis = kan.layers[layer].expansion.basis
    return basis.grid, basis.grid_min, basis.grid_max


@each_spline
@each_range
@pytest.mark.parametrize("options", [{}, {"base": False}, {"zero_preserving": False}, {"norm": "layer", "zero_preserving": False}], ids=str)
def test_function_is_kept_where_the_data_are(basis: Basis, lower: float, upper: float, options: dict[str, object]) -> None:
    kan = make(basis, **options)
    x = uniform(lower, upper, 400, 5)
    before, old = kan(x).detach(), grid_of(kan)
    change = kan.update_grid(x)
    assert (grid_of(kan) != old) or (lower, upper) == (-2.9, 2.9)
    after = kan(x).detach()
    scale = float(before.abs().max())
    assert change == float((after - before).abs().max())
    assert change <= rounding(kan) * scale
    if kan.layers[0].norm == "scale":
        _, grid_min, grid_max = grid_of(kan)
        assert grid_min <= float(x.min())
        assert grid_max >= float(x.max())


@each_spline
@each_range
def test_function_is_kept_in_float32(basis: Basis, lower: float, upper: float) -> None:
    kan = make(basis, dtype=torch.float32)
    x = uniform(lower, upper, 400, 5, dtype=torch.float32)
    scale = float(kan(x).detach().abs().max())
    # Outside the old grid the B-splines' fall to zero takes differences of large truncated powers, whose weights are rounded.
    inside = isinstance(basis, BSpline) or (lower > -3.0 and upper < 3.0)
    assert kan.update_grid(x) <= (1e-6 if inside else 1e-3) * max(1.0, scale)


@each_spline
def test_slopes_and_curvatures_are_kept(basis: Basis) -> None:
    kan = make(basis, (3, 1))
    x = uniform(-1.3, 2.2, 200, 3).requires_grad_()

    def derivatives() -> tuple[Tensor, Tensor]:
        (slope,) = torch.autograd.grad(kan(x).sum(), x, create_graph=True)
        return slope.detach(), torch.autograd.grad(slope.sum(), x)[0]

    before = derivatives()
    kan.update_grid(x)
    for one, other in zip(derivatives(), before, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


@each_spline
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_stack_is_kept(basis: Basis, dtype: torch.dtype) -> None:
    kan = make(basis, (6, 8, 5, 2), dtype)
    x = 2 * uniform(-1.0, 1.0, 300, 6, dtype=dtype)
    kan.calibrate(x, torch.zeros(2, dtype=dtype), torch.ones(2, dtype=dtype))
    before = kan(x).detach()
    old = [grid_of(kan, layer) for layer in range(3)]
    change = kan.update_grid(x)
    assert change == float((kan(x).detach() - before).abs().max())
    # In float32 the layers' inputs lie beyond the old grid, where truncated powers' weights are large and rounded.
    tolerance = rounding(kan) if dtype == torch.float64 else 1e-6 if isinstance(basis, BSpline) else 1e-3
    assert change <= tolerance * float(before.abs().max())
    assert all(grid_of(kan, layer) != old[layer] for layer in range(3))


@each_spline
@each_range
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("intervals", [None, 6])
def test_zero_stays_zero(basis: Basis, lower: float, upper: float, dtype: torch.dtype, intervals: int | None) -> None:
    kan = make(basis, dtype=dtype)
    kan.update_grid(uniform(lower, upper, 400, 5, dtype=dtype), intervals=intervals)
    assert torch.equal(kan(torch.zeros(3, 5, dtype=dtype)), torch.zeros(3, 4, dtype=dtype))


@each_spline
def test_twice_is_as_good_as_once(basis: Basis) -> None:
    kan = make(basis)
    first, second = uniform(-2.0, 2.5, 400, 5), uniform(-1.0, 1.1, 400, 5)
    before = kan(second).detach()
    kan.update_grid(first)
    kan.update_grid(second)
    torch.testing.assert_close(kan(second).detach(), before, rtol=0, atol=1e-10)
    grid = grid_of(kan)
    kan.update_grid(second)
    assert grid_of(kan)[1:] == pytest.approx(grid[1:], abs=0.5)


@each_spline
def test_new_intervals_are_about_as_many_as_the_old(basis: Basis) -> None:
    old = basis.arguments()["grid"]
    kan = make(basis)
    kan.update_grid(uniform(-0.9, 0.8, 400, 5))
    assert old / 2 <= grid_of(kan)[0] <= 2 * old + 2


def test_an_interval_is_split_into_32_at_most() -> None:
    kan = make(BSpline())
    kan.update_grid(uniform(-0.02, 0.03, 400, 5))
    assert grid_of(kan) == (2, pytest.approx(-1.2 / 32), pytest.approx(1.2 / 32))


@each_spline
@pytest.mark.parametrize(
    "change", [lambda kan: kan, lambda kan: kan.double(), lambda kan: kan.double().float()], ids=["same", "double", "back"]
)
def test_state_dict_carries_the_grid(basis: Basis, change: object) -> None:
    kan = make(basis, (5, 6, 2), torch.float32)
    x = uniform(-4.3, 1.7, 200, 5, dtype=torch.float32)
    kan.update_grid(x)
    kan = change(kan)  # type: ignore[operator]
    x = x.to(next(kan.parameters()).dtype)
    file = io.BytesIO()
    torch.save(kan.state_dict(), file)
    file.seek(0)
    torch.manual_seed(7)
    fresh = change(KAN((5, 6, 2), copy.deepcopy(basis)))  # type: ignore[operator]
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(fresh(x), kan(x))
    assert [grid_of(fresh, layer) for layer in (0, 1)] == [grid_of(kan, layer) for layer in (0, 1)]
    assert torch.equal(copy.deepcopy(kan)(x), kan(x))
    fresh(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in fresh.parameters())


def test_a_layer_without_an_update_has_no_grid_in_its_state() -> None:
    assert set(KAN((2, 1), BSpline()).state_dict()) == {"layers.0.weight", "layers.0.input_scale"}


def test_an_old_state_is_refused_by_a_layer_with_a_new_grid() -> None:
    kan = make(BSpline())
    state = copy.deepcopy(kan.state_dict())
    kan.update_grid(uniform(-1.0, 1.2, 50, 5))
    with pytest.raises(RuntimeError, match="grid"):
        kan.load_state_dict(state)


def test_forward_never_moves_the_grid() -> None:
    kan = make(BSpline()).train()
    grid = grid_of(kan)
    kan(uniform(-50.0, 50.0, 200, 5)).square().sum().backward()
    assert grid_of(kan) == grid
    assert kan.layers[0].grid is None


def test_an_optimiser_made_before_does_not_go_on_silently() -> None:
    kan, x = make(BSpline()), uniform(-1.0, 1.2, 50, 5)
    optimiser = torch.optim.Adam(kan.parameters())
    kan(x).square().sum().backward()
    optimiser.step()
    kan.update_grid(x[:, :] * 0.3)
    assert kan.layers[0].weight.grad is None
    kan(x).square().sum().backward()
    with pytest.raises(RuntimeError, match="size"):
        optimiser.step()


@each_spline
def test_another_number_of_intervals_is_a_least_squares_fit(basis: Basis) -> None:
    """More intervals fit better; the change that is returned is the one that happened."""
    x = uniform(-2.0, 2.0, 400, 5)
    changes = []
    for intervals in (4, 64):
        kan = make(basis)
        before = kan(x).detach()
        changes.append(kan.update_grid(x, intervals=intervals))
        assert grid_of(kan) == (intervals, pytest.approx(float(x.min())), pytest.approx(float(x.max())))
        assert changes[-1] == float((kan(x).detach() - before).abs().max())
    assert changes[1] < 0.2 * changes[0]
    assert changes[1] < 0.05


def test_quantile_cuts_outliers() -> None:
    x = uniform(-1.0, 1.0, 1000, 5)
    x[0] = 200.0
    kan = make(BSpline())
    before = kan(x[1:]).detach()
    kan.update_grid(x, quantile=0.01)
    assert grid_of(kan)[1] < -0.9
    assert 0.9 < grid_of(kan)[2] < 1.7
    torch.testing.assert_close(kan(x[1:][x[1:].amax(1) < 0.95]), before[x[1:].amax(1) < 0.95])


def test_inputs_that_do_not_vary() -> None:
    for value in (0.0, 1.3):
        kan = make(BSpline())
        x = torch.full((4, 5), value, dtype=torch.float64)
        assert kan.update_grid(x) < 1e-12
        assert kan.update_grid(x, intervals=3) < 0.1


def test_change_of_basis_is_knot_insertion() -> None:
    """Halving the intervals of a quadratic spline: the subdivision weights 1/4, 3/4, 3/4, 1/4 of Chaikin's algorithm."""
    change = change_of_basis(BSpline(4, 2, 0.0, 4.0), BSpline(8, 2, 0.0, 4.0))
    assert change.shape == (10, 6)
    torch.testing.assert_close(change[1:5, 2], torch.tensor([0.0, 0.25, 0.75, 0.75], dtype=torch.float64), atol=1e-13, rtol=0)
    torch.testing.assert_close(change.sum(1), torch.ones(10, dtype=torch.float64))


def test_the_grid_is_exact_in_any_dtype() -> None:
    basis = BSpline(7, 3, -1.1, 2.3)
    module = torch.nn.Module()
    module.register_buffer("grid", encode(basis))
    module.half().float()
    assert with_grid(basis, module.get_buffer("grid")).arguments() == basis.arguments()


@pytest.mark.parametrize("basis", [Gaussian(), ReLUPower(), Chebyshev()])
def test_other_bases_are_refused(basis: Basis) -> None:
    with pytest.raises(ValueError, match="choose from: BSpline, TruncatedPower"):
        make(basis).update_grid(uniform(-1.0, 1.0, 10, 5))
    with pytest.raises(ValueError, match="choose from: BSpline, TruncatedPower"):
        make(basis).layers[0].set_grid(encode(BSpline()))


@pytest.mark.parametrize(
    ("x", "arguments", "message"),
    [
        (torch.ones(5, 3), {}, r"x has shape \[5, 3\].*\[M, 5\]"),
        (torch.ones(0, 5), {}, "M ≥ 1"),
        (torch.full((2, 5), torch.nan), {}, "must be finite"),
        (torch.ones(5, 5), {"quantile": 0.5}, "quantile=0.5 must be"),
        (torch.ones(5, 5), {"quantile": -0.1}, "quantile=-0.1 must be"),
        (torch.ones(5, 5), {"intervals": 0}, "intervals=0 is not possible; give 1 to 256"),
        (1e4 * torch.ones(5, 5), {}, "more than 256; calibrate the input scale"),
    ],
)
def test_bad_arguments(x: Tensor, arguments: dict[str, float], message: str) -> None:
    kan = make(BSpline(), dtype=torch.float32)
    with pytest.raises(ValueError, match=message):
        kan.update_grid(x, **arguments)  # type: ignore[arg-type]
    assert kan.layers[0].grid is None


def test_a_layer_alone() -> None:
    layer = KANLayer(3, 2, BSpline()).double()
    x = uniform(-1.0, 1.0, 50, 3)
    assert layer.update_grid(x) < 1e-12
    assert layer.weight.shape == (2, layer.expansion.columns, 3)
