"""The kernels as operators with functions as text: the layer, wherever it is recorded; nothing that is no such text is read."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from kanmlip.kan import KAN, AdaptiveGaussian, Basis, BSpline, Chebyshev, Fourier, Gaussian, ReLUPower, TruncatedPower, native

BASES = (Gaussian(), BSpline(), BSpline(order=2), Fourier(), Chebyshev(), ReLUPower(), TruncatedPower(), AdaptiveGaussian())
WIDTHS = [[5, 3], [40, 2, 1], [3, 40, 4], [6, 20, 20]]


@pytest.fixture(autouse=True)
def _compiler() -> None:
    if not native.load():
        pytest.skip("no C++ compiler")


def energy_and_forces(kan: KAN, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.requires_grad_()
    y = kan(x)
    (slope,) = torch.autograd.grad(y.square().sum(), x)
    return y.detach(), slope


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
@pytest.mark.parametrize("basis", BASES, ids=lambda b: type(b).__name__)
@pytest.mark.parametrize("norm", ["scale", "layer"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_recording_is_the_layer(widths: list[int], basis: Basis, norm: Any, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    kan = KAN(widths, basis, norm=norm, backend="native").to(dtype).requires_grad_(False)
    for layer in kan.layers:
        if norm == "scale":
            layer.input_scale.uniform_(0.5, 2.0)  # type: ignore[union-attr, operator]
    trace = make_fx(lambda x: energy_and_forces(kan, x), tracing_mode="symbolic", _allow_non_fake_inputs=True)
    made = trace(torch.randn(9, widths[0], dtype=dtype))
    names = [str(node.target) for node in made.graph.nodes if "kanmlip" in str(node.target)]
    assert sorted(names) == ["kanmlip_cpu.kan.default"] * len(kan.layers) + ["kanmlip_cpu.kan_slope.default"] * len(kan.layers)
    x = torch.randn(13, widths[0], dtype=dtype)  # of another size than the example
    tolerance = 1e-11 if dtype == torch.float64 else 1e-4
    kan.set_backend("reference")
    for found, expected in zip(made(x.clone()), energy_and_forces(kan, x.clone()), strict=True):
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("frozen", [True, False])
def test_in_eager_mode_it_is_the_cpu_backend(frozen: bool) -> None:
    kan = KAN([4, 3, 2], Gaussian(), backend="native").requires_grad_(not frozen)
    x = torch.randn(7, 4)
    found = energy_and_forces(kan, x.clone())
    kan.set_backend("cpu")
    for one, other in zip(found, energy_and_forces(kan, x.clone()), strict=True):
        assert torch.equal(one, other)


class Ramp(Basis):
    """max(x, 0)³ and no kernel for it."""

    def __init__(self) -> None:
        super().__init__(1)
        self.register_constants()

    def constants(self) -> dict[str, Tensor]:
        return {}

    def evaluate(self, x: Tensor, derivative: int = 0) -> Tensor:
        scale = math.perm(3, derivative)
        return (scale * x.clamp_min(0) ** (3 - derivative)).unsqueeze(-1)


def test_a_basis_without_kernels_is_recorded_in_plain_pytorch() -> None:
    kan = KAN([3, 2], Ramp(), backend="native").double().requires_grad_(False)
    made = make_fx(kan)(torch.randn(4, 3, dtype=torch.float64))
    assert not [node for node in made.graph.nodes if "kanmlip" in str(node.target)]
    x = torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(made(x), kan(x), rtol=1e-12, atol=1e-12)


def test_there_are_no_gradients_that_a_trained_model_does_not_need() -> None:
    layer = KAN([3, 2], Gaussian()).layers[0]
    functions = layer.expansion.functions  # type: ignore[union-attr]
    weight = layer.effective_weight.detach()  # type: ignore[union-attr, operator]
    x = torch.randn(4, 3, requires_grad=True)
    with pytest.raises(NotImplementedError, match="backend=native is for trained models"):
        native.layer(x, weight.requires_grad_(), None, None, None, functions).sum().backward()
    (slope,) = torch.autograd.grad(native.layer(x, weight.detach(), None, None, None, functions).sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="of first order; choose backend=auto"):
        slope.square().sum().backward()


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        ("", "lack family, size, base or zero"),
        ("0 8 1", "lack family"),
        ("0 8 1 1 -3.0 x", "'x' is no number"),
        ("0 8 1 1 -3.0 1,1", "'1,1' is no number"),
        ("0 8 1 1 -3.0", "need 2 numbers"),
        ("5 8 1 1 1.0", "no family 5"),
        ("0 0 1 1 1.0 1.0", "of 0 functions"),
        ("4 8 1 1 0.0 1.0 99.0 4.0", "at most 8 pieces"),
        ("4 8 1 1 0.0 1.0 2.0 2.0 1.0", "as many coefficients as"),
        ("1 2 1 1", r"centres and inverse widths must be \[2, 2\]"),
    ],
)
def test_other_texts_are_refused(functions: str, message: str) -> None:
    """A file may hold anything, and kernels read as many numbers as it says."""
    size = int(functions.split()[1]) if len(functions.split()) > 1 else 1
    with pytest.raises((ValueError, RuntimeError), match=message):
        native.layer(torch.randn(4, 3), torch.randn(2, size + 1, 3), None, None, None, functions)


def test_numbers_are_read_to_the_last_bit() -> None:
    """By another spelling a layer would be another one."""
    for start in (-3.0, -1 / 3, -1e-17, -2.5e-300, -math.pi):
        basis = Gaussian(grid_min=start, grid_max=1.1)
        kan = KAN([3, 2], basis, backend="cpu").double().requires_grad_(False)
        layer: Any = kan.layers[0]
        x = torch.randn(5, 3, dtype=torch.float64)
        found = native.layer(x, layer.effective_weight, None, None, None, layer.expansion.functions)
        assert torch.equal(found, kan(x))
