"""A layer whose weights are not trained, as in molecular dynamics: the same numbers to the last bit, and nothing kept that need not be."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kanmlip.kan import Basis, backend_cpu
from tests.unit.test_kan_basis import each_basis
from tests.unit.test_kan_layer import each_dtype, inputs, make


def unequal(rows: int, channels: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return (inputs(rows, channels, dtype=dtype) * torch.linspace(0.2, 7.0, channels, dtype=dtype)).requires_grad_()


# Few inputs, few outputs, neither: each has kernels of its own.
each_kernel = pytest.mark.parametrize("widths", [(4, 3), (20, 2), (20, 5), (20, 12)], ids=str)


@each_basis
@each_kernel
def test_a_frozen_layer_divides_by_its_scale_in_every_pass(widths: tuple[int, int], basis_class: type[Basis]) -> None:
    """Values, gradients and their gradients, with and without a graph, where inputs are of unequal size."""
    kan, x = make(widths, basis_class).requires_grad_(False), unequal(6, widths[0])
    kan.layers[0].calibrate_scale(x.detach())
    results = []
    for backend in ("auto", "reference"):
        kan.set_backend(backend)
        y = kan(x)
        (plain,) = torch.autograd.grad(y.square().sum(), x, retain_graph=True)
        (slope,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sin().sum(), x)
        with torch.no_grad():
            results.append((kan(x), y, plain, slope, curvature))
    for fused, reference in zip(*results, strict=True):
        torch.testing.assert_close(fused, reference, rtol=1e-10, atol=1e-11)


@each_basis
@each_kernel
def test_a_frozen_layer_keeps_nothing_but_its_input_and_its_own_tensors(widths: tuple[int, int], basis_class: type[Basis]) -> None:
    """Memory of molecular dynamics: no scaled inputs, no functions, no weights times their gain wait for the backward pass."""
    kan, x = make(widths, basis_class).requires_grad_(False), unequal(64, widths[0])
    basis = kan.layers[0].expansion.basis
    if not backend_cpu.available() or basis.shape() is not None or basis.mixing() is not None:
        pytest.skip("no compiled node for this basis here")
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = kan(x)
    own = {tensor.data_ptr() for tensor in (x, *kan.parameters(), *kan.buffers())}
    assert [list(tensor.shape) for tensor in kept if tensor.data_ptr() not in own] == [[widths[0]]]  # 1/s
    (slope,) = torch.autograd.grad(y.sum(), x)
    kan.set_backend("reference")
    torch.testing.assert_close(slope, torch.autograd.grad(kan(x).sum(), x)[0])


@each_basis
@each_kernel
@each_dtype
def test_freezing_changes_no_bit(dtype: torch.dtype, widths: tuple[int, int], basis_class: type[Basis]) -> None:
    """What molecular dynamics evaluates is what was trained, and what is evaluated without a graph."""
    kan, x = make(widths, basis_class, dtype), unequal(37, widths[0], dtype)
    kan.layers[0].calibrate_scale(x.detach())
    results = []
    for trained in (True, False):
        kan.requires_grad_(trained)
        y = kan(x)
        (slope,) = torch.autograd.grad(y.square().sum(), x)
        with torch.no_grad():
            results.append((kan(x), y, slope))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(results[0][0], results[0][1])
