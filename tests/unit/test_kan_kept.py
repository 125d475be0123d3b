"""Small layers in plain PyTorch, which keep their functions from pass to pass: the same numbers, and memory that comes back."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import Tensor

from kanmlip.kan import KAN, Basis, BSpline, Gaussian
from kanmlip.kan import kept as kept_module
from kanmlip.kan.backends import resolve
from kanmlip.kan.expansion import Expansion
from kanmlip.kan.kept import Kept
from kanmlip.kan.memory import pool
from tests.unit.test_kan_backends import relative, tensors
from tests.unit.test_kan_basis import each_basis


def step(kan: KAN, x: Tensor) -> list[Tensor]:
    """Outputs, slopes and the gradients of a loss on both."""
    own = x.clone().requires_grad_()
    y = kan(own)
    (slope,) = torch.autograd.grad(y.sum(), own, create_graph=True)
    return [y, slope, *torch.autograd.grad((slope - 0.3).square().sum() + y.square().sum(), [own, *kan.parameters()])]


def make(basis: Basis, widths: tuple[int, ...] = (7, 5, 1)) -> KAN:
    torch.manual_seed(0)
    return KAN(widths, basis, backend="torch").double()


@each_basis
def test_kept_functions_give_what_recomputed_ones_give(basis_class: type[Basis], monkeypatch: pytest.MonkeyPatch) -> None:
    kan, x = make(basis_class()), tensors(60, 7, 1, 1, torch.float64)[0]
    kept = step(kan, x)
    monkeypatch.setattr(kept_module, "KEPT_ELEMENTS", 0)
    for one, other in zip(kept, step(kan, x), strict=True):
        assert relative(one, other) < 1e-13


@each_basis
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("widths", [(1, 1), (7, 3), (33, 17, 1)])
def test_zero_in_zero_out(basis_class: type[Basis], dtype: torch.dtype, widths: tuple[int, ...]) -> None:
    kan = make(basis_class(), widths).to(dtype)
    for rows in (1, 37):
        assert not kan(torch.zeros(rows, widths[0], dtype=dtype, requires_grad=True)).any()


@pytest.mark.parametrize("basis", [Gaussian(), BSpline(), BSpline(order=2)])
def test_graphs_that_live_side_by_side_do_not_share_memory(basis: Basis) -> None:
    kan, (x, other) = make(basis), tensors(40, 7, 1, 1, torch.float64)[:2]
    alone = step(kan, x)
    own = x.clone().requires_grad_()
    y = kan(own)
    step(kan, other)
    (slope,) = torch.autograd.grad(y.sum(), own, create_graph=True)
    step(kan, other)
    late = [y, slope, *torch.autograd.grad((slope - 0.3).square().sum() + y.square().sum(), [own, *kan.parameters()])]
    for one, expected in zip(late, alone, strict=True):
        assert torch.equal(one, expected)


def test_a_third_derivative_is_worked_out_when_it_is_asked_for() -> None:
    kan, x = make(Gaussian(), (3, 1)), tensors(9, 3, 1, 1, torch.float64)[0].requires_grad_()

    def third() -> Tensor:
        value = kan(x).sum()
        for _ in range(3):
            (slope,) = torch.autograd.grad(value, x, create_graph=True)
            value = slope.sum()
        return slope

    ours = third()
    kan.set_backend("reference")
    assert relative(ours, third()) < 1e-11


def test_memory_is_used_again() -> None:
    kan, x = make(BSpline()), tensors(50, 7, 1, 1, torch.float64)[0]

    def spare() -> int:
        gc.collect()
        return len(pool)

    step(kan, x)
    before = spare()
    assert before >= 6  # three orders in each of two layers
    for _ in range(20):
        step(kan, x)
    assert spare() == before


def test_layers_of_more_than_a_block_keep_nothing() -> None:
    expansion = Expansion(Gaussian(), True, True)
    run = resolve(expansion.specs["torch"], torch.zeros(1, 7, dtype=torch.float64))
    rows = kept_module.KEPT_ELEMENTS // (7 * expansion.columns)
    assert isinstance(run.keeping(torch.zeros(rows, 7, dtype=torch.float64)), Kept)
    assert run.keeping(torch.zeros(rows + 1, 7, dtype=torch.float64)) is run
