"""Every backend against the definition: values and derivatives to the second, blocks, threads, one-pass gradients, falling back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kanmlip.kan import KAN, Basis, BSpline, Gaussian
from kanmlip.kan import backends as backends_module
from kanmlip.kan.backends import kernels_for, resolve
from kanmlip.kan.cpu import build as build_module
from kanmlip.kan.expansion import Expansion
from tests.unit.test_kan_basis import each_basis

each_backend = pytest.mark.parametrize("backend", ["torch", "cpu"])
needs_compiler = pytest.mark.skipif(
    not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++")), reason="no C++ compiler"
)
each_flags = pytest.mark.parametrize(("base", "zero_preserving"), [(True, True), (False, True), (True, False)])


@pytest.fixture
def fresh_backends() -> Iterator[None]:
    """Forget which backends work, before and after."""
    caches = (backends_module._resolve, build_module.available)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def tensors(rows: int, width: int, out: int, columns: int, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Points in and far outside the grid, factors v and g, weights."""
    generator = torch.Generator().manual_seed(seed)
    x = 2 * torch.randn(rows, width, generator=generator, dtype=torch.float64)
    far = torch.tensor([0.0, 20.0, -20.0, 9.7, -1e2, 3.0, -6.6], dtype=torch.float64)
    x.view(-1)[: min(len(far), x.numel())] = far[: x.numel()]
    v = torch.randn(rows, width, generator=generator, dtype=torch.float64)
    g = torch.randn(rows, out, generator=generator, dtype=torch.float64)
    weight = torch.randn(out, columns, width, generator=generator, dtype=torch.float64)
    return x.to(dtype), v.to(dtype), g.to(dtype), weight.to(dtype)


def relative(one: Tensor, other: Tensor) -> float:
    """Largest difference, relative to the largest entry, or to one."""
    one, other = one.detach().double(), other.detach().double()
    return float((one - other).abs().max() / other.abs().max().clamp_min(1.0))


def definition(expansion: Expansion, x: Tensor, v: Tensor, g: Tensor, weight: Tensor, order: int) -> tuple[Tensor, Tensor, Tensor]:
    """The three contractions as written, in float64."""
    phi = expansion.evaluate(x.double(), order)
    return (
        torch.einsum("ni,nik,oki->no", v.double(), phi, weight.double()),
        torch.einsum("ni,nik,no->oki", v.double(), phi, g.double()),
        torch.einsum("nik,oki,no->ni", phi, weight.double(), g.double()),
    )


@each_basis
@each_backend
@each_flags
@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
@torch.no_grad()
def test_contractions_are_those_of_the_definition(
    basis_class: type[Basis], backend: str, base: bool, zero_preserving: bool, order: int, dtype: torch.dtype, tolerance: float
) -> None:
    basis = basis_class().double()
    kernel = Expansion(basis.kernel(), base, zero_preserving)
    shapes = [(1, 1, 1), (7, 5, 3), (130, 37, 32), (70, 17, 1), (33, 3, 70), (41, 35, 7), (50, 3, 32), (35, 8, 64), (17, 2, 9), (5, 9, 4)]
    for rows, width, out in shapes:
        x, v, g, weight = tensors(rows, width, out, kernel.columns, dtype)
        if order == 3:  # off the knots, where a spline's third derivative jumps
            x = x + 0.0123
        shape = None if basis.shape() is None else basis.shape().detach().to(dtype)  # type: ignore[union-attr]
        run = resolve(kernel.specs[backend], x)
        ours = (run.output(x, v, weight, shape, order), run.weight(x, v, g, shape, order), run.input(x, g, weight, shape, order))
        for one, other in zip(ours, definition(kernel.double(), x, v, g, weight, order), strict=True):
            assert one.dtype == dtype
            assert relative(one, other) < tolerance


@each_basis
@each_backend
@pytest.mark.parametrize("order", [0, 1, 2])
@torch.no_grad()
def test_gradients_in_one_pass_are_the_three_contractions(basis_class: type[Basis], backend: str, order: int) -> None:
    basis = basis_class().double()
    expansion = Expansion(basis.kernel(), True, True)
    shape = None if basis.shape() is None else basis.shape().detach()  # type: ignore[union-attr]
    for rows, width, out in [(1, 1, 1), (130, 37, 32), (600, 17, 1), (33, 3, 70)]:
        x, v, g, weight = tensors(rows, width, out, expansion.columns, torch.float64)
        run = resolve(expansion.specs[backend], x)
        expected = (
            v * run.input(x, g, weight, shape, order + 1),
            run.output(x, v, weight, shape, order),
            run.weight(x, v, g, shape, order),
        )
        for one, other in zip(run.input_gradients(x, v, g, weight, shape, order), expected, strict=True):
            assert relative(one, other) < 1e-13


@each_basis
@each_backend
def test_gradcheck(basis_class: type[Basis], backend: str) -> None:
    torch.manual_seed(0)
    kan = KAN((3, 2, 1), basis_class(), backend=backend).double()  # type: ignore[arg-type]
    names = [name for name, _ in kan.named_parameters()]
    values = [value.detach().clone().requires_grad_() for value in kan.parameters()]
    x = tensors(4, 3, 1, 1, torch.float64)[0].clamp(-5, 5).add(0.01).requires_grad_()

    def function(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(kan, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(function, (x, *values))
    assert torch.autograd.gradgradcheck(function, (x, *values))


@each_basis
@each_backend
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_a_force_training_step_agrees_with_the_reference(
    basis_class: type[Basis], backend: str, dtype: torch.dtype, tolerance: float
) -> None:
    """Outputs, forces and the gradients of a loss on both, for points in and far outside the grid."""
    torch.manual_seed(1)
    kan = KAN((8, 6, 2), basis_class()).to(dtype)
    x = tensors(60, 8, 1, 1, dtype)[0]

    def step(name: str, module: KAN, x: Tensor) -> list[Tensor]:
        module.set_backend(name)  # type: ignore[arg-type]
        x = x.detach().requires_grad_()
        y = module(x)
        (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        return [y, slope, *torch.autograd.grad((slope - 0.3).square().mean() + y.square().mean(), [x, *module.parameters()])]

    ours = step(backend, kan, x)
    if dtype == torch.float64:
        expected = step("reference", kan, x)
        assert max(relative(one, other) for one, other in zip(ours, expected, strict=True)) < tolerance
        return
    # In float32 the reference itself is off by as much as the points and sums are rounded: ours may be so too, by no more than the bar.
    reference = step("reference", kan, x)
    exact = step("reference", kan.double(), x.double())
    for one, other, truth in zip(ours, reference, exact, strict=True):
        assert relative(one, truth) < tolerance + 2 * relative(other, truth)


def test_a_fine_grid_of_a_wide_layer_is_done_by_panels_of_inputs() -> None:
    """Coefficients of more than 2 MB; nothing is lost between panels, and zero stays zero."""
    torch.manual_seed(0)
    kan = KAN((70, 40), BSpline(100), backend="cpu").double()
    x = tensors(90, 70, 1, 1, torch.float64)[0]

    def step() -> list[Tensor]:
        own = x.clone().requires_grad_()
        y = kan(own)
        (slope,) = torch.autograd.grad(y.sum(), own, create_graph=True)
        return [y, slope, *torch.autograd.grad(slope.square().sum() + y.square().sum(), [own, *kan.parameters()])]

    ours = step()
    assert torch.equal(kan(torch.zeros_like(x)), torch.zeros_like(ours[0]))
    kan.set_backend("reference")
    for one, other in zip(ours, step(), strict=True):
        assert relative(one, other) < 1e-12


@each_basis
@torch.no_grad()
def test_threads_and_blocks_change_nothing_but_rounding(basis_class: type[Basis]) -> None:
    """Also: the threads of a pool must not try to build a graph."""
    kan = KAN((7, 40, 1), basis_class()).double()
    x = tensors(3000, 7, 1, 1, torch.float64)[0]

    def gradients() -> list[Tensor]:
        with torch.enable_grad():
            own = x.clone().requires_grad_()
            (slope,) = torch.autograd.grad(kan(own).sum(), own, create_graph=True)
            return [slope, *torch.autograd.grad(slope.square().sum(), [own, *kan.parameters()])]

    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(gradients())
    finally:
        torch.set_num_threads(before)
    for one, other in zip(*results, strict=True):
        assert relative(one, other) < 1e-12
    rows = torch.cat([kan(part) for part in x.split(77)])
    assert relative(rows, kan(x)) < 1e-13


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.no_grad()
def test_a_row_of_splines_does_not_depend_on_the_others_by_a_bit(dtype: torch.dtype) -> None:
    kan = KAN((9, 33, 1), BSpline(), backend="cpu").to(dtype)
    x = tensors(700, 9, 1, 1, dtype)[0]
    assert torch.equal(kan(x)[123:130], kan(x[123:130]))


@needs_compiler
def test_auto_takes_compiled_kernels_on_the_cpu() -> None:
    assert kernels_for("auto", torch.device("cpu")).__name__ == "kanmlip.kan.backend_cpu"  # type: ignore[attr-defined]
    assert kernels_for("torch", torch.device("cpu")).__name__ == "kanmlip.kan.backend_torch"  # type: ignore[attr-defined]


@pytest.mark.skipif("TRITON_INTERPRET" in os.environ, reason="the interpreter runs Triton kernels on the CPU")
def test_triton_is_refused_on_the_cpu_with_a_way_out() -> None:
    with pytest.raises(ValueError, match=r"backend=triton.*choose backend=auto"):
        KAN((2, 1), BSpline(), backend="triton")(torch.zeros(1, 2))


@pytest.mark.usefixtures("fresh_backends")
@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"])
def test_without_a_compiler_plain_pytorch_does_it_after_one_warning(compiler: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", compiler)
    monkeypatch.setenv("KANMLIP_CACHE", str(tmp_path))
    kan, x = KAN((3, 2), Gaussian()), torch.randn(4, 3)
    with pytest.warns(UserWarning, match=rf"{compiler}.*basis\.backend=torch") as caught:
        y = kan(x)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kan(x)
    kan.set_backend("torch")
    assert torch.equal(y, kan(x))
    assert not list((tmp_path / "kernels").glob("*.so"))


@needs_compiler
def test_kernels_are_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    library = build_module.build()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("compiled again")

    monkeypatch.setattr(build_module.tempfile, "TemporaryDirectory", refuse)
    assert build_module.build() == library


def test_of_processes_that_want_kernels_at_once_one_builds(tmp_path: Path) -> None:
    compiler = tmp_path / "compiler"
    compiler.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && exit 0\necho built >> {tmp_path}/log\nsleep 0.5\n'
        'while [ "$1" != -o ]; do shift; done\ntouch "$2"\n'
    )
    compiler.chmod(0o755)
    program = "from kanmlip.kan.cpu.build import build; build()"
    environment = {**os.environ, "CXX": str(compiler), "KANMLIP_CACHE": str(tmp_path)}
    processes = [subprocess.Popen([sys.executable, "-c", program], env=environment) for _ in range(3)]
    assert [process.wait(timeout=240) for process in processes] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "built\n"


@pytest.mark.parametrize("backend", ["torch", "cpu"])
@torch.no_grad()
def test_nan_in_nan_out(backend: str) -> None:
    """Also without a base branch, and it is never an address."""
    for basis in (BSpline(), Gaussian()):
        kan = KAN((3, 2), basis, base=False, backend=backend)  # type: ignore[arg-type]
        x = torch.tensor([[0.5, torch.nan, 0.1], [1.0, -1.0, 0.0], [torch.inf, 1.0, -torch.inf]])
        y = kan(x)
        assert torch.isnan(y[0]).all()
        assert torch.isfinite(y[1]).all()
        torch.testing.assert_close(y[1], kan(x[1:2])[0])
