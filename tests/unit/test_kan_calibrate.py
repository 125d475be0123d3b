"""KAN.calibrate: frozen input scales, and outputs that start with the mean and variance of the MLP that a KAN replaces."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from kanmlip.kan import KAN, Basis, Gaussian, KANLayer
from tests.unit.test_kan_basis import each_basis

ROWS = 12000


def make_mlp(widths: tuple[int, ...], bias: bool) -> nn.Sequential:
    torch.manual_seed(3)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after, bias=bias), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


def sample(width: int, seed: int) -> Tensor:
    """Correlated inputs of unequal scales, some of them tiny: far from the N(0, 1) that a fresh KAN expects."""
    mix = torch.randn(width, width, generator=torch.Generator().manual_seed(9)) / width**0.5
    x = torch.randn(ROWS, width, generator=torch.Generator().manual_seed(seed)) @ mix
    return x * torch.logspace(-1.5, 0.7, width)


@each_basis
@pytest.mark.parametrize("zero_preserving", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("widths", [(16, 16, 1), (32, 16, 4), (48, 24, 8, 1), (8, 1)])
def test_starts_where_the_mlp_starts(basis_class: type[Basis], zero_preserving: bool, bias: bool, widths: tuple[int, ...]) -> None:
    mlp = make_mlp(widths, bias)
    torch.manual_seed(4)
    kan = KAN(widths, basis_class(), zero_preserving=zero_preserving)
    x, fresh = sample(widths[0], 0), sample(widths[0], 1)
    with torch.no_grad():
        y = mlp(x)
        kan.calibrate(x, y.mean(0), y.var(0))
        ours, expected = kan(fresh), mlp(fresh)
    # The bounds are those of issue 2; with this many rows the sampling error is a fifth of them.
    assert ((ours.mean(0) - expected.mean(0)).abs() <= 0.1 * expected.std(0)).all()
    torch.testing.assert_close(ours.var(0), expected.var(0), rtol=0.1, atol=0)


@each_basis
@pytest.mark.parametrize("options", [{}, {"base": False}, {"norm": "none"}, {"norm": "layer"}], ids=str)
def test_exact_on_the_calibration_data(basis_class: type[Basis], options: dict[str, object]) -> None:
    torch.manual_seed(0)
    kan = KAN((12, 6, 3), basis_class(), **options).double()  # type: ignore[arg-type]
    x = sample(12, 0)[:500].double()
    mean, variance = torch.tensor([0.0, -0.2, 0.5]).double(), torch.tensor([1e-4, 1.0, 9.0]).double()
    mean[0] = 1e-3
    for _ in range(2):  # a second time, from weights that have been calibrated
        kan.calibrate(x, mean, variance)
        y = kan(x)
        torch.testing.assert_close(y.mean(0), mean, rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(y.var(0, unbiased=False), variance, rtol=1e-8, atol=0)


@each_basis
def test_impossible_mean_keeps_the_variance(basis_class: type[Basis]) -> None:
    """f(0) = 0 and inputs about zero: a mean of many standard deviations cannot be reached; forces need the variance."""
    torch.manual_seed(0)
    kan = KAN((4, 1), basis_class())
    x = 1e-2 * torch.randn(2000, 4)
    x[::2] = 0.0
    kan.calibrate(x, torch.tensor([100.0]), torch.tensor([1.0]))
    y = kan(x).detach()
    assert torch.isfinite(kan.layers[0].weight).all()
    assert float(y.var()) == pytest.approx(1.0, rel=0.02)
    assert float(y.mean()) > 0


@each_basis
@pytest.mark.parametrize("variance", [0.0, 1.0])
def test_degenerate_inputs_stay_finite(basis_class: type[Basis], variance: float) -> None:
    for x in (torch.zeros(10, 4), torch.ones(10, 4), torch.randn(1, 4)):
        kan = KAN((4, 3, 2), basis_class())
        kan.calibrate(x, torch.ones(2), torch.full((2,), variance))
        assert all(weight.abs().max() < 100 for weight in kan.parameters())
        assert torch.isfinite(kan(torch.randn(5, 4))).all()
        assert all(torch.isfinite(value).all() for value in kan.state_dict().values())


@each_basis
def test_input_scale_is_the_root_mean_square_with_a_floor(basis_class: type[Basis]) -> None:
    layer = KANLayer(4, 1, basis_class())
    x = torch.randn(5000, 4) * torch.tensor([2.0, 0.5, 1e-6, 0.0])
    layer.calibrate_scale(x)
    square = x.square().mean(0)
    floor = 0.1 * square.mean().sqrt()
    torch.testing.assert_close(layer.input_scale, torch.stack([square[0].sqrt(), square[1].sqrt(), floor, floor]))
    assert not layer.input_scale.requires_grad


@each_basis
def test_scale_is_frozen_afterwards(basis_class: type[Basis]) -> None:
    kan = KAN((4, 3, 2), basis_class()).train()
    kan.calibrate(torch.randn(100, 4), torch.zeros(2), torch.ones(2))
    before = {name: value.clone() for name, value in kan.named_buffers()}
    kan(100 * torch.randn(100, 4)).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in kan.named_buffers())


@pytest.mark.parametrize(
    ("x", "mean", "variance", "message"),
    [
        (torch.ones(5, 3), torch.ones(2), torch.ones(2), r"x has shape \[5, 3\].*\[M, 4\]"),
        (torch.ones(0, 4), torch.ones(2), torch.ones(2), "M ≥ 1"),
        (torch.ones(5, 4), torch.ones(1), torch.ones(2), r"mean has shape \[1\]; it must be \[2\]"),
        (torch.ones(5, 4), torch.ones(2), torch.ones(3), r"variance has shape \[3\]"),
        (torch.full((5, 4), torch.nan), torch.ones(2), torch.ones(2), "must be finite"),
        (torch.ones(5, 4), torch.ones(2), -torch.ones(2), "variance not negative"),
    ],
)
def test_bad_calibration_data(x: Tensor, mean: Tensor, variance: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KAN((4, 3, 2), Gaussian()).calibrate(x, mean, variance)
