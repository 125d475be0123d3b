"""The gradients of a KAN layer's three contractions, each made of the same three, and the layer in eager mode.

Backends may have nodes of their own for eager mode, as the compiled kernels have (``cpu/nodes.h``, with the same formulas).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function

from kanmlip.kan import backend_cpu
from kanmlip.kan.backends import Contractions, resolve
from kanmlip.kan.kept import Kept
from kanmlip.kan.spec import read_settings

Gradients = tuple[Tensor | None, ...]
Hidden = tuple[Tensor, Tensor, Tensor | None]
Run = Contractions | Kept


@dataclass(frozen=True)
class Calls:
    """The three contractions as differentiable calls: output(x, v, weight, …), weight(x, v, g, …), input(x, g, weight, …).

    Which functions, that is said by the spec to registered operators, and by resolved ``Contractions`` in eager mode.
    """

    output: Callable[..., Tensor]
    weight: Callable[..., Tensor]
    input: Callable[..., Tensor]


def save(ctx: Any, inputs: tuple[Any, ...], output: Tensor | None = None) -> None:
    """Keep a call's inputs for its gradients: never the output, which tracers detach (pytorch issue 175477)."""
    *tensors, ctx.functions, ctx.order = inputs
    ctx.save_for_backward(*tensors)


def of_output(calls: Calls, ctx: Any, u: Tensor) -> Gradients:
    """Gradients of A_d by x, v, W and shape for an incoming u [N, out]."""
    x, v, weight, shape = ctx.saved_tensors
    need, how = ctx.needs_input_grad, (shape, ctx.functions)
    return (
        _scaled(v, calls.input(x, u, weight, *how, ctx.order + 1)) if need[0] else None,
        calls.input(x, u, weight, *how, ctx.order) if need[1] else None,
        calls.weight(x, v, u, *how, ctx.order) if need[2] else None,
        _by_shape(calls, x, v, u, weight, shape, ctx.functions, ctx.order) if need[3] else None,
        None,
        None,
    )


def of_weight(calls: Calls, ctx: Any, u: Tensor) -> Gradients:
    """Gradients of B_d by x, v, g and shape for an incoming u [out, columns, in]."""
    x, v, g, shape = ctx.saved_tensors
    need, how = ctx.needs_input_grad, (shape, ctx.functions)
    return (
        _scaled(v, calls.input(x, g, u, *how, ctx.order + 1)) if need[0] else None,
        calls.input(x, g, u, *how, ctx.order) if need[1] else None,
        calls.output(x, v, u, *how, ctx.order) if need[2] else None,
        _by_shape(calls, x, v, g, u, shape, ctx.functions, ctx.order) if need[3] else None,
        None,
        None,
    )


def of_input(calls: Calls, ctx: Any, u: Tensor) -> Gradients:
    """Gradients of C_d by x, g, W and shape for an incoming u [N, in]."""
    x, g, weight, shape = ctx.saved_tensors
    need, how = ctx.needs_input_grad, (shape, ctx.functions)
    return (
        u * calls.input(x, g, weight, *how, ctx.order + 1) if need[0] else None,
        calls.output(x, u, weight, *how, ctx.order) if need[1] else None,
        calls.weight(x, u, g, *how, ctx.order) if need[2] else None,
        _by_shape(calls, x, u, g, weight, shape, ctx.functions, ctx.order) if need[3] else None,
        None,
        None,
    )


def _scaled(v: Tensor | None, value: Tensor) -> Tensor:
    return value if v is None else v * value


def _by_shape(
    calls: Calls, x: Tensor, v: Tensor | None, g: Tensor, weight: Tensor, shape: Tensor, functions: str | Run, order: int
) -> Tensor:
    """∂T/∂(c, s) [2, K] of functions φ((x − c_k) s_k): −Σ W B_{d+1}(v), and Σ W [d B_d(v) + B_{d+1}(v x) − c B_{d+1}(v)]/s."""
    centre, inverse = shape
    size = shape.shape[1]
    own = weight[:, :size]

    def total(factor: Tensor | None, derivative: int) -> Tensor:
        return (own * calls.weight(x, factor, g, shape, functions, derivative)[:, :size]).sum((0, 2))

    slope = total(v, order + 1)
    by_centre = -slope
    by_inverse = (total(x if v is None else v * x, order + 1) - centre * slope) / inverse
    if order > 0:
        by_inverse = by_inverse + order * total(v, order) / inverse
    elif _zero_preserving(functions):
        # The value at zero that each function is reduced by, exp(−(c s)²).
        plain = g.sum(0).unsqueeze(1) if v is None else g.t() @ v
        change = 2 * inverse * torch.exp(-(centre * inverse).square()) * (own * plain.unsqueeze(1)).sum((0, 2))
        by_centre = by_centre + centre * inverse * change
        by_inverse = by_inverse + centre.square() * change
    return torch.stack([by_centre, by_inverse])


def _zero_preserving(functions: str | Run) -> bool:
    return bool(read_settings(functions)["zero_preserving"]) if isinstance(functions, str) else functions.expansion.zero_preserving


def layer(x: Tensor, weight: Tensor, shape: Tensor | None, spec: str, gain: Tensor | None, scale: Tensor | None) -> Tensor:
    """See ``ops.layer``; eager mode only."""
    run = resolve(spec, x)
    transformed = _transformed()
    if run.layer is not None and not transformed:
        return run.layer(x, weight, gain, scale)
    if gain is not None:
        weight = weight * gain
    if scale is not None:
        x = x / scale
    if transformed or not torch.is_grad_enabled():
        return _output(x, None, weight, shape, run, 0)
    own = run.keeping(x)
    # Two nodes: autograd computes every gradient of a Python node that it visits, so that a single one would work out the
    # weights' gradient in grad(energy, positions) too, where nobody asked for it (pytorch issues 56500, 174017).
    hidden = (x, weight, shape)
    y = _apply(_ByInput, x, hidden, own)
    if not weight.requires_grad and (shape is None or not shape.requires_grad):
        return y
    return y + _apply(_ByParameters, weight, shape, hidden, own)


def stack(x: Tensor, weights: Sequence[Tensor], specs: Sequence[str], gains: Sequence[Tensor], scales: Sequence[Tensor]) -> Tensor | None:
    """See ``ops.stack``; eager mode only."""
    runs = [] if _transformed() else [resolve(spec, x) for spec in specs]
    if not runs or any(run.layer is None for run in runs):
        return None
    return backend_cpu.stack([run.expansion for run in runs], x, weights, gains, scales)


def _transformed() -> bool:
    """Whether torch.func is at work: its transforms take one node, and no tensors that autograd does not see."""
    return torch._C._functorch.maybe_current_level() is not None


def _apply(function: type[Function], *arguments: object) -> Tensor:
    return cast("Callable[..., Tensor]", function.apply)(*arguments)


# The contractions in eager mode: a node where a graph is built, nothing but the kernel where none is.
def _output(x: Tensor, v: Tensor | None, weight: Tensor, shape: Tensor | None, run: Run, order: int) -> Tensor:
    if torch.is_grad_enabled():
        return _apply(_FuncOutput if _transformed() else _Output, x, v, weight, shape, run, order)
    return run.output(x, v, weight, shape, order)


def _weight(x: Tensor, v: Tensor | None, g: Tensor, shape: Tensor | None, run: Run, order: int) -> Tensor:
    if torch.is_grad_enabled():
        return _apply(_FuncWeight if _transformed() else _Weight, x, v, g, shape, run, order)
    return run.weight(x, v, g, shape, order)


def _input(x: Tensor, g: Tensor, weight: Tensor, shape: Tensor | None, run: Run, order: int) -> Tensor:
    if torch.is_grad_enabled():
        return _apply(_FuncInput if _transformed() else _Input, x, g, weight, shape, run, order)
    return run.input(x, g, weight, shape, order)


_EAGER = Calls(_output, _weight, _input)


class _Output(Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        save(ctx, inputs)
        return _output(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Gradients:
        return of_output(_EAGER, ctx, grads[0])


class _Weight(Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        save(ctx, inputs)
        return _weight(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Gradients:
        return of_weight(_EAGER, ctx, grads[0])


class _Input(Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        save(ctx, inputs)
        return _input(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Gradients:
        if torch.is_grad_enabled() or ctx.needs_input_grad[:4] != (True, True, True, False):
            return of_input(_EAGER, ctx, grads[0])
        # The last pass of a force-training step: everything at once.
        x, g, weight, shape = ctx.saved_tensors
        return (*ctx.functions.input_gradients(x, grads[0], g, weight, shape, ctx.order), None, None, None)


# The same in the form that torch.func wants. Not for all: there PyTorch inspects forward's signature at every call, which takes
# longer than a contraction of a small layer.
class _FuncOutput(_Output):
    @staticmethod
    def forward(*inputs: Any) -> Tensor:
        return _output(*inputs)

    setup_context = staticmethod(save)


class _FuncWeight(_Weight):
    @staticmethod
    def forward(*inputs: Any) -> Tensor:
        return _weight(*inputs)

    setup_context = staticmethod(save)


class _FuncInput(_Input):
    @staticmethod
    def forward(*inputs: Any) -> Tensor:
        return _input(*inputs)

    setup_context = staticmethod(save)


class _ByInput(Function):
    """The layer as a function of x alone; what else it depends on comes in a tuple, where autograd does not see it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, hidden: Hidden, run: Run) -> Tensor:
        _, weight, shape = hidden
        ctx.save_for_backward(x, weight, shape)
        ctx.functions = run
        return run.output(x, None, weight, shape, 0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Gradients:
        x, weight, shape = ctx.saved_tensors
        return _input(x, grads[0], weight, shape, ctx.functions, 1), None, None


class _ByParameters(Function):
    """Zeros in place of the layer's value, with the layer's gradients by its parameters."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, shape: Tensor | None, hidden: Hidden, run: Run) -> Tensor:
        x = hidden[0]
        ctx.save_for_backward(x, weight, shape)
        ctx.functions = run
        return x.new_zeros(()).expand(x.shape[0], weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Gradients:
        x, weight, shape = ctx.saved_tensors
        by_weight = _weight(x, None, grads[0], shape, ctx.functions, 0) if ctx.needs_input_grad[0] else None
        by_shape = _by_shape(_EAGER, x, None, grads[0], weight, shape, ctx.functions, 0) if ctx.needs_input_grad[1] else None
        return by_weight, by_shape, None, None
