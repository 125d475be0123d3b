"""Eager mode, make_fx, torch.func, torch.compile, export and scripts give the same: each trap of force training has a test here."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._decomp import core_aten_decompositions
from torch.fx.experimental.proxy_tensor import make_fx

from kanmlip.kan import KAN, Basis
from tests.unit.test_kan_basis import each_basis

each_backend = pytest.mark.parametrize("backend", ["auto", "reference", "inductor"])


def make(basis_class: type[Basis], backend: str) -> KAN:
    torch.manual_seed(0)
    return KAN((6, 5, 1), basis_class(), backend=backend).double()  # type: ignore[arg-type]


def points(rows: int) -> Tensor:
    return 1.5 * torch.randn(rows, 6, generator=torch.Generator().manual_seed(rows), dtype=torch.float64)


def force_loss_gradients(kan: KAN) -> Callable[..., tuple[Tensor, ...]]:
    """f(x, *parameters, *buffers) → the gradients by the parameters of a loss on energies and forces."""
    parameters, buffers = dict(kan.named_parameters()), dict(kan.named_buffers())

    def function(x: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        x = x.detach().requires_grad_()
        y = torch.func.functional_call(kan, dict(zip([*parameters, *buffers], values, strict=True)), (x,))
        (forces,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        loss = (forces - 0.3).square().sum() + y.square().sum()
        return torch.autograd.grad(loss, values[: len(parameters)])

    return function


def inputs(kan: KAN) -> list[Tensor]:
    return [*(value.detach().clone().requires_grad_() for value in kan.parameters()), *kan.buffers()]


def by_transforms(kan: KAN) -> Callable[..., tuple[Tensor, ...]]:
    """The same gradients by torch.func.grad of torch.func.grad."""
    names = [name for name, _ in kan.named_parameters()]

    def loss(values: tuple[Tensor, ...], x: Tensor) -> Tensor:
        def energy(x: Tensor) -> Tensor:
            return torch.func.functional_call(kan, dict(zip(names, values, strict=True)), (x,))

        forces = torch.func.grad(lambda x: energy(x).sum())(x)
        return (forces - 0.3).square().sum() + energy(x).square().sum()

    return lambda x, *values: torch.func.grad(loss)(values, x)


def close(ours: Any, expected: Any) -> None:
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


@each_basis
@each_backend
@pytest.mark.parametrize("mode", ["real", "symbolic"])
@pytest.mark.parametrize("decompose", [False, True])
def test_make_fx_keeps_force_training_gradients(basis_class: type[Basis], backend: str, mode: str, decompose: bool) -> None:
    """Tracing detaches saved outputs of exp, tanh and others (pytorch issue 175477), and specialises loops over rows to one N."""
    if decompose and backend != "auto":
        pytest.skip("what decompositions do to plain PyTorch functions is not ours")
    kan = make(basis_class, backend)
    function, values = force_loss_gradients(kan), inputs(kan)
    table = core_aten_decompositions() if decompose else None
    traced = make_fx(function, tracing_mode=mode, decomposition_table=table)(points(7), *values)
    rows = 7 if mode == "real" else 11
    close(traced(points(rows), *values), function(points(rows), *values))


@each_basis
@each_backend
def test_torch_func_agrees(basis_class: type[Basis], backend: str) -> None:
    kan = make(basis_class, backend)
    values = [value.detach().clone() for value in kan.parameters()]
    close(by_transforms(kan)(points(7), *values), force_loss_gradients(kan)(points(7), *inputs(kan)))


@each_basis
def test_compiled_torch_func_agrees(basis_class: type[Basis]) -> None:
    torch._dynamo.reset()
    kan = make(basis_class, "auto")
    values = [value.detach().clone() for value in kan.parameters()]
    compiled = torch.compile(by_transforms(kan), backend="aot_eager", fullgraph=True)
    close(compiled(points(7), *values), force_loss_gradients(kan)(points(7), *inputs(kan)))


@each_basis
def test_compiled_energies_and_gradients_agree(basis_class: type[Basis]) -> None:
    torch._dynamo.reset()
    kan = make(basis_class, "auto")
    compiled = torch.compile(kan, backend="aot_eager", fullgraph=True)
    results = []
    for module in (kan, compiled):
        x = points(7).requires_grad_()
        results.append([module(x), *torch.autograd.grad(module(x).sum(), [x, *kan.parameters()])])
    close(*results)


def test_a_compiled_double_backward_is_refused_not_wrong() -> None:
    """torch.compile has no second derivative through its own first one (pytorch issues 91469, 183603)."""
    torch._dynamo.reset()
    kan = make(_some_basis(), "auto")
    compiled = torch.compile(kan, backend="aot_eager")
    x = points(7).requires_grad_()
    with pytest.raises(RuntimeError, match="double backward"):
        (slope,) = torch.autograd.grad(compiled(x).sum(), x, create_graph=True)
        slope.square().sum().backward()


@each_basis
@each_backend
def test_export_takes_any_number_of_rows(basis_class: type[Basis], backend: str) -> None:
    kan = make(basis_class, backend)
    program = torch.export.export(kan, (points(7),), dynamic_shapes=({0: torch.export.Dim("rows", min=2)},))
    for rows in (7, 23):
        close([program.module()(points(rows))], [kan(points(rows))])


@each_basis
def test_a_script_takes_the_reference_form(basis_class: type[Basis]) -> None:
    kan = make(basis_class, "auto")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(kan)
    assert [name for name, _ in scripted.named_parameters()] == [name for name, _ in kan.named_parameters()]
    results = []
    for module in (kan, scripted):
        x = points(7).requires_grad_()
        y = module(x)
        (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        results.append([y, slope, *torch.autograd.grad(slope.square().sum(), [x, *module.parameters()])])
    close(*results)


def _some_basis() -> type[Basis]:
    return next(iter(each_basis.args[1]))  # type: ignore[no-any-return]


def test_layers_do_not_import_the_compiler() -> None:
    """It takes longer than torch itself, in every command that checks a basis."""
    code = "import sys, kanmlip.kan; print('torch' in sys.modules, 'torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["True", "False"]
