"""A frozen stack that keeps its input alone for the backward pass: the same numbers to the last bit, from hidden values nobody keeps."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.profiler import ProfilerActivity, profile, record_function

from kanmlip.kan import KAN, AdaptiveGaussian, Basis, BSpline, Gaussian, KANLayer, TruncatedPower, backend_cpu
from tests.unit.test_kan_basis import each_basis
from tests.unit.test_kan_frozen import unequal
from tests.unit.test_kan_layer import each_dtype, make
from tests.unit.test_kan_nodes import kernels_of

# Few inputs, few outputs, neither; two layers and more.
each_widths = pytest.mark.parametrize("widths", [(20, 12, 1), (4, 9, 3), (20, 12, 9, 2)], ids=str)


def frozen(widths: tuple[int, ...], basis_class: type[Basis], dtype: torch.dtype = torch.float64, rows: int = 37) -> tuple[KAN, Tensor]:
    """A stack that keeps no hidden values, each layer with scales of its own, and inputs."""
    kan, x = make(widths, basis_class, dtype).requires_grad_(False), unequal(rows, widths[0], dtype)
    hidden = x.detach()
    for layer in kan.layers:
        layer.calibrate_scale(hidden)
        hidden = layer(hidden)
    kan.keep_hidden = False
    return kan, x


def skip_unless_recomputed(basis: Basis) -> None:
    if not backend_cpu.available() or basis.shape() is not None or basis.mixing() is not None:
        pytest.skip("no compiled node for this basis here")


def slopes(kan: KAN, x: Tensor) -> list[Tensor]:
    """Values and first derivatives, with and without graphs."""
    y = kan(x)
    (plain,) = torch.autograd.grad(y.square().sum(), x, retain_graph=True)
    (again,) = torch.autograd.grad(y.square().sum(), x, retain_graph=True)
    (slope,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with torch.no_grad():
        evaluated = kan(x)
    with torch.inference_mode():
        return [y, plain, again, slope, evaluated, kan(x).clone()]


@each_basis
@each_widths
@each_dtype
def test_working_out_again_changes_no_bit(dtype: torch.dtype, widths: tuple[int, ...], basis_class: type[Basis]) -> None:
    kan, x = frozen(widths, basis_class, dtype)
    ours = slopes(kan, x)
    kan.keep_hidden = True
    for one, other in zip(ours, slopes(kan, x), strict=True):
        assert torch.equal(one, other)
        assert one.requires_grad == other.requires_grad
    assert ours[1].abs().max() > 0  # equal zeros would prove nothing


@each_basis
@each_widths
def test_derivatives_to_the_third_are_the_definitions(widths: tuple[int, ...], basis_class: type[Basis]) -> None:
    kan, x = frozen(widths, basis_class, rows=6)
    results = []
    for backend in ("auto", "reference"):
        kan.set_backend(backend)
        y = kan(x)
        (slope,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sin().sum() + y.sum(), x, create_graph=True)
        (third,) = torch.autograd.grad(curvature.sin().sum(), x)
        results.append((y, slope, curvature, third))
    for fused, reference in zip(*results, strict=True):
        torch.testing.assert_close(fused, reference, rtol=1e-10, atol=1e-10 * float(reference.detach().abs().max()))


def test_gradients_are_those_of_differences() -> None:
    kan, x = frozen((3, 4, 5, 2), Gaussian, rows=4)
    assert torch.autograd.gradcheck(kan, (x,))
    assert torch.autograd.gradgradcheck(kan, (x,))


@each_basis
@each_widths
def test_nothing_is_kept_but_the_input_and_own_tensors(widths: tuple[int, ...], basis_class: type[Basis]) -> None:
    kan, x = frozen(widths, basis_class)
    skip_unless_recomputed(kan.layers[0].expansion.basis)
    own = {tensor.untyped_storage().data_ptr() for tensor in (*kan.parameters(), *kan.buffers())}

    def kept() -> list[Tensor]:
        found: list[Tensor] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: found.append(tensor) or tensor, lambda tensor: tensor):
            kan(x)
        return [tensor for tensor in found if tensor.untyped_storage().data_ptr() not in own]

    assert [tensor.data_ptr() for tensor in kept()] == [x.data_ptr()]
    kan.keep_hidden = True
    assert {(len(x), width) for width in widths[:-1]} <= {tuple(tensor.shape) for tensor in kept()}


def test_hidden_values_are_freed_as_soon_as_the_next_are_there() -> None:
    """What autograd's hooks do not see, torch's allocator does."""
    kan, x = frozen((8, 64, 64, 64, 64, 1), BSpline, rows=2000)
    skip_unless_recomputed(kan.layers[0].expansion.basis)
    hidden, outputs = 2000 * 64 * 8, 2000 * 8

    def allocations() -> tuple[int, int]:
        """Bytes held when a forward pass is over, and at most during it."""
        kan(x)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
            y = kan(x)
            with record_function("over"):
                assert y.grad_fn is not None
            del y  # what is freed later torch would count in every profile to come
        events = sorted((event.start_ns(), event.name(), event.nbytes()) for event in record.profiler.kineto_results.events())
        (over,) = (start for start, name, _ in events if name == "over")
        held = list(accumulate(change for start, name, change in events if name == "[memory]" and start < over))
        return held[-1], max(held)

    after, peak = allocations()
    assert outputs <= after < outputs + 0.01 * hidden
    kan.keep_hidden = True
    ordinary_after, ordinary_peak = allocations()
    assert ordinary_after > after + 3.9 * hidden
    # Of four hidden values two are there at a time, or one and the outputs.
    assert ordinary_peak > peak + 1.9 * hidden


def test_each_pass_runs_the_kernels_that_it_needs() -> None:
    kan, x = frozen((20, 12, 9, 2), BSpline)
    skip_unless_recomputed(kan.layers[0].expansion.basis)
    assert kernels_of(lambda: kan(x)) == {"stack": 1, "output": 3}
    y = kan(x)
    assert kernels_of(lambda: torch.autograd.grad(y.sum(), x)) == {"output": 2, "input": 3}
    x.requires_grad_(False)
    assert kernels_of(lambda: kan(x)) == {"stack": 1, "output": 3}
    assert not kan(x).requires_grad


@each_basis
@pytest.mark.parametrize("trained", [(0, 1, 2), (0,), (2,)], ids=str)
def test_weights_that_are_trained_have_their_gradients(trained: tuple[int, ...], basis_class: type[Basis]) -> None:
    kan, x = frozen((20, 12, 9, 2), basis_class)
    weights = [kan.layers[turn].weight.requires_grad_() for turn in trained]
    results = []
    for keep in (False, True):
        kan.keep_hidden = keep
        y = kan(x)
        (slope,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        results.append([y, slope, *torch.autograd.grad(slope.square().sum() + y.sum(), [x, *weights])])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
        assert other.abs().max() > 0


def test_few_hidden_values_are_kept() -> None:
    """Three of 61 inputs are not worth their time, three of 60 are."""
    stacks = [frozen((inputs, 3, 1), BSpline) for inputs in (61, 60)]
    skip_unless_recomputed(stacks[0][0].layers[0].expansion.basis)
    assert ["stack" in kernels_of(lambda kan=kan, x=x: kan(x)) for kan, x in stacks] == [False, True]


@pytest.mark.parametrize("why", ["one layer", "norm", "backend", "shape", "mixing", "hook", "dtype"])
def test_stacks_that_cannot_are_computed_as_ever(why: str) -> None:
    basis = {"shape": AdaptiveGaussian, "mixing": TruncatedPower}.get(why, BSpline)
    widths = (6, 2) if why == "one layer" else (6, 5, 2)
    kan = KAN(widths, basis(), norm="layer" if why == "norm" else "scale", backend="torch" if why == "backend" else "auto")
    kan.requires_grad_(False).double()
    x = unequal(7, 6)
    seen: list[int] = []
    if why == "hook":
        kan.layers[1].register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[-1]))
    if why == "dtype":
        kan, x = kan.bfloat16(), x.detach().bfloat16().requires_grad_()
    expected = slopes(kan, x)
    kan.keep_hidden = False
    assert "stack" not in kernels_of(lambda: kan(x))
    for one, other in zip(slopes(kan, x), expected, strict=True):
        assert torch.equal(one, other)
    assert set(seen) == ({5} if why == "hook" else set())


def by_hessian(kan: KAN, x: Tensor) -> Tensor:
    return torch.autograd.functional.hessian(lambda x: kan(x).sum(), x, vectorize=True)


@pytest.mark.parametrize(
    "call",
    [
        lambda kan, x: torch.no_grad()(torch.func.vmap(kan))(torch.stack([x, 2 * x])),
        lambda kan, x: torch.func.grad(lambda x: kan(x).sum())(x),
        lambda kan, x: make_fx(kan)(x)(2 * x),
        lambda kan, x: torch.jit.trace(kan, (x,))(2 * x),
        lambda kan, x: torch.jit.script(kan)(x),
        lambda kan, x: torch.compile(kan, backend="aot_eager", fullgraph=True)(x),
        by_hessian,
        lambda kan, x: kan(torch.stack([x, 2 * x])),
        lambda kan, x: kan(x[0]),
        lambda kan, x: kan(x[:0]),
        lambda kan, x: kan(x.expand(3, *x.shape).transpose(0, 1)),
    ],
    ids=["vmap", "grad", "make_fx", "trace", "script", "compile", "batched backward", "more dimensions", "a row", "no rows", "strides"],
)
def test_other_ways_to_call_a_stack_give_the_same(call: Callable[[KAN, Tensor], Tensor]) -> None:
    skip_unless_recomputed(BSpline())  # plain PyTorch has no batching of kernels
    torch._dynamo.reset()
    kan, x = frozen((6, 5, 4, 2), BSpline, rows=7)
    results = []
    for keep in (False, True):
        kan.keep_hidden = keep
        results.append(call(kan, x))
    torch.testing.assert_close(*results, rtol=1e-13, atol=1e-13)


def test_every_layer_is_a_layer_of_the_stack() -> None:
    """A stack in eager mode does not call its layers; their tensors are looked up anew at every call."""
    kan, x = frozen((6, 5, 2), BSpline)
    for layer in kan.layers:
        assert isinstance(layer, KANLayer)
        before = kan(x)
        with torch.no_grad():
            layer.input_scale.mul_(1.5)
        assert not torch.equal(kan(x), before)
        before = kan(x)
        layer.set_effective_weight(2 * layer.effective_weight)
        assert not torch.equal(kan(x), before)
