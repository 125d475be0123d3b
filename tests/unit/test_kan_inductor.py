"""Frozen KANs as PyTorch's compiler makes them for files: the same numbers, exactly zero at zero, and no stored basis."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from kanmlip.benchmark.md_memory import allocated_peak_mib
from kanmlip.kan import KAN, Basis, BSpline, Gaussian
from kanmlip.kan.expansion import FEW_OUTPUTS

ROWS = 3000


def energy_and_slope(kan: KAN) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """What a compiled potential does: the gradient is part of the program."""

    def function(x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.requires_grad_()
        y = kan(x)
        (slope,) = torch.autograd.grad(y.sin().sum(), x)
        return y.detach(), slope

    return function


@pytest.mark.slow
@pytest.mark.parametrize(
    ("basis", "widths"), [(Gaussian(), (37, 3, 1)), (BSpline(), (64, FEW_OUTPUTS + 1, 2))], ids=["gaussian", "bspline"]
)
def test_compiled_it_is_the_reference(basis: Basis, widths: tuple[int, ...]) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    kan = KAN(widths, basis, backend="inductor").requires_grad_(False)
    x = 1.5 * torch.randn(ROWS, widths[0])
    compiled = torch.compile(make_fx(energy_and_slope(kan))(x.clone()))
    found, at_zero = compiled(x.clone()), compiled(torch.zeros_like(x))[0]
    assert torch.equal(at_zero, torch.zeros_like(at_zero))
    kan.set_backend("reference")
    for one, other in zip(found, energy_and_slope(kan)(x.clone()), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("basis", "outputs"), [(Gaussian(), 3), (BSpline(), 2)], ids=["gaussian", "bspline"])
def test_compiled_functions_of_few_outputs_are_not_stored(basis: Basis, outputs: int) -> None:
    """Neither they nor their gradients: less is held than one function of each input takes."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    kan = KAN((128, outputs), basis, backend="inductor").requires_grad_(False)
    x = torch.randn(ROWS, 128)
    compiled = torch.compile(make_fx(energy_and_slope(kan))(x.clone()))
    compiled(x.clone())
    given_and_gradient = 2 * x.numel() * 4 / 2**20
    assert allocated_peak_mib(lambda: compiled(x.clone())) < 1.5 * given_and_gradient
