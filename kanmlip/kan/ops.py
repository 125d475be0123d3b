"""A KAN layer as three operators that are closed under differentiation: whatever order of derivative is asked for, they compute it.

Everything follows from T_d(x; v, g, W) = Σ_niko v_ni φ_k⁽ᵈ⁾(x_ni) W_oki g_no. The layer is ∂T₀/∂g at v = 1. The operators are T's
partial derivatives,

    kan_output  A_d = ∂T/∂g [N, out]    kan_weight  B_d = ∂T/∂W [out, columns, in]    kan_input  C_d = ∂T/∂v [N, in],

and ∂T/∂x = v C_{d+1}, so that the gradient of each is made of the others with d or d + 1. For functions φ((x − c_k) s_k) of
learnable centres and widths, ∂T/∂c and ∂T/∂s are sums of W B_{d+1} as well. None of them stores the expanded basis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.library import Library

from kanmlip.kan.expansion import Expansion, read_spec
from kanmlip.kan.spec import read_settings

_LIBRARY = Library("kanmlip", "FRAGMENT")
_LIBRARY.define("kan_output(Tensor x, Tensor? v, Tensor weight, Tensor? shape, str spec, int order) -> Tensor")
_LIBRARY.define("kan_weight(Tensor x, Tensor? v, Tensor g, Tensor? shape, str spec, int order) -> Tensor")
_LIBRARY.define("kan_input(Tensor x, Tensor g, Tensor weight, Tensor? shape, str spec, int order) -> Tensor")
_OPS = torch.ops.kanmlip


class Kernels(Protocol):
    """What a backend module offers; see ``backend_torch``."""

    contract_output: Callable[[Expansion, Tensor, Tensor | None, Tensor, Tensor | None, int], Tensor]
    contract_weight: Callable[[Expansion, Tensor, Tensor | None, Tensor, Tensor | None, int], Tensor]
    contract_input: Callable[[Expansion, Tensor, Tensor, Tensor, Tensor | None, int], Tensor]


def layer(x: Tensor, weight: Tensor, shape: Tensor | None, spec: str) -> Tensor:
    """y_no = Σ_ik φ_k(x_ni) W_oki, differentiable three times.

    Args:
        x: Inputs [N, in].
        weight: W [out, columns, in].
        shape: Centres and inverse widths [2, K] of the functions if they are learnable.
        spec: The functions, from ``Expansion.specs``.

    Returns:
        Outputs [N, out].
    """
    learning = torch.is_grad_enabled() and (weight.requires_grad or (shape is not None and shape.requires_grad))
    if not learning or not x.requires_grad or torch.compiler.is_compiling() or _tracing():
        return cast("Tensor", _OPS.kan_output(x, None, weight, shape, spec, 0))
    # Two nodes: autograd computes every gradient of a Python node that it visits, so that a single one would work out the
    # weights' gradient in grad(energy, positions) too, where nobody asked for it (pytorch issues 56500, 174017).
    hidden = (x, weight, shape)
    return _apply(_ByInput, x, hidden, spec) + _apply(_ByParameters, weight, shape, hidden, spec)


def backend_for(name: str, device: torch.device) -> Kernels:
    """The module that computes on a device.

    Args:
        name: ``auto`` takes the fastest there is.
        device: Of the tensors.

    Raises:
        ValueError: If ``triton`` is asked for where it cannot run.
    """
    from kanmlip.kan import backend_torch

    if name in ("auto", "cpu") and device.type == "cpu":
        from kanmlip.kan import backend_cpu

        if backend_cpu.available():
            return backend_cpu
    if name in ("auto", "triton") and (device.type == "cuda" or name == "triton"):
        from kanmlip.kan import backend_triton

        if backend_triton.available(device):
            return cast("Kernels", backend_triton)
        if name == "triton":
            raise ValueError(f"backend=triton needs a CUDA device and the package triton; tensors are on {device}. Choose backend=auto")
    return backend_torch


def _resolve(spec: str, x: Tensor) -> tuple[Kernels, Expansion]:
    return backend_for(read_settings(spec)["backend"], x.device), read_spec(spec, x.dtype, x.device)


def _output(x: Tensor, v: Tensor | None, weight: Tensor, shape: Tensor | None, spec: str, order: int) -> Tensor:
    kernels, expansion = _resolve(spec, x)
    return kernels.contract_output(expansion, x.contiguous(), _dense(v), weight.contiguous(), _dense(shape), order)


def _weight(x: Tensor, v: Tensor | None, g: Tensor, shape: Tensor | None, spec: str, order: int) -> Tensor:
    kernels, expansion = _resolve(spec, x)
    return kernels.contract_weight(expansion, x.contiguous(), _dense(v), g.contiguous(), _dense(shape), order)


def _input(x: Tensor, g: Tensor, weight: Tensor, shape: Tensor | None, spec: str, order: int) -> Tensor:
    kernels, expansion = _resolve(spec, x)
    return kernels.contract_input(expansion, x.contiguous(), g.contiguous(), weight.contiguous(), _dense(shape), order)


def _dense(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


def _fake_output(x: Tensor, v: Tensor | None, weight: Tensor, shape: Tensor | None, spec: str, order: int) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


def _fake_weight(x: Tensor, v: Tensor | None, g: Tensor, shape: Tensor | None, spec: str, order: int) -> Tensor:
    return x.new_empty(g.shape[1], read_spec(spec, x.dtype, torch.device("cpu")).columns, x.shape[1])


def _fake_input(x: Tensor, g: Tensor, weight: Tensor, shape: Tensor | None, spec: str, order: int) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.spec, ctx.order = inputs
    ctx.save_for_backward(*tensors)


def _scaled(v: Tensor | None, value: Tensor) -> Tensor:
    return value if v is None else v * value


def _output_backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
    x, v, weight, shape = ctx.saved_tensors
    need, spec, order = ctx.needs_input_grad, ctx.spec, ctx.order
    return (
        _scaled(v, _OPS.kan_input(x, u, weight, shape, spec, order + 1)) if need[0] else None,
        _OPS.kan_input(x, u, weight, shape, spec, order) if need[1] else None,
        _OPS.kan_weight(x, v, u, shape, spec, order) if need[2] else None,
        _by_shape(x, v, u, weight, shape, spec, order) if need[3] else None,
        None,
        None,
    )


def _weight_backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
    x, v, g, shape = ctx.saved_tensors
    need, spec, order = ctx.needs_input_grad, ctx.spec, ctx.order
    return (
        _scaled(v, _OPS.kan_input(x, g, u, shape, spec, order + 1)) if need[0] else None,
        _OPS.kan_input(x, g, u, shape, spec, order) if need[1] else None,
        _OPS.kan_output(x, v, u, shape, spec, order) if need[2] else None,
        _by_shape(x, v, g, u, shape, spec, order) if need[3] else None,
        None,
        None,
    )


def _input_backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
    x, g, weight, shape = ctx.saved_tensors
    need, spec, order = ctx.needs_input_grad, ctx.spec, ctx.order
    return (
        u * _OPS.kan_input(x, g, weight, shape, spec, order + 1) if need[0] else None,
        _OPS.kan_output(x, u, weight, shape, spec, order) if need[1] else None,
        _OPS.kan_weight(x, u, g, shape, spec, order) if need[2] else None,
        _by_shape(x, u, g, weight, shape, spec, order) if need[3] else None,
        None,
        None,
    )


def _by_shape(x: Tensor, v: Tensor | None, g: Tensor, weight: Tensor, shape: Tensor, spec: str, order: int) -> Tensor:
    """∂T/∂(c, s) [2, K] of functions φ((x − c_k) s_k): −Σ W B_{d+1}(v), and Σ W [d B_d(v) + B_{d+1}(v x) − c B_{d+1}(v)]/s."""
    centre, inverse = shape
    size = shape.shape[1]
    functions = weight[:, :size]

    def total(factor: Tensor | None, derivative: int) -> Tensor:
        b: Tensor = _OPS.kan_weight(x, factor, g, shape, spec, derivative)
        return (functions * b[:, :size]).sum((0, 2))

    slope = total(v, order + 1)
    by_centre = -slope
    by_inverse = (total(x if v is None else v * x, order + 1) - centre * slope) / inverse
    if order > 0:
        by_inverse = by_inverse + order * total(v, order) / inverse
    elif read_spec(spec, x.dtype, x.device).zero_preserving:
        # The value at zero that each function is reduced by, exp(−(c s)²).
        plain = g.sum(0).unsqueeze(1) if v is None else g.t() @ v
        change = 2 * inverse * torch.exp(-(centre * inverse).square()) * (functions * plain.unsqueeze(1)).sum((0, 2))
        by_centre = by_centre + centre * inverse * change
        by_inverse = by_inverse + centre.square() * change
    return torch.stack([by_centre, by_inverse])


for _name, _function, _fake, _backward in (
    ("kan_output", _output, _fake_output, _output_backward),
    ("kan_weight", _weight, _fake_weight, _weight_backward),
    ("kan_input", _input, _fake_input, _input_backward),
):
    _LIBRARY.impl(_name, _function, "CompositeExplicitAutograd")
    torch.library.register_fake(f"kanmlip::{_name}", _fake, lib=_LIBRARY)
    torch.library.register_autograd(f"kanmlip::{_name}", _backward, setup_context=_save, lib=_LIBRARY)


def _tracing() -> bool:
    """Whether calls are being recorded (make_fx, export): then one operator is written down, not two nodes."""
    return bool(torch._C._len_torch_dispatch_stack())


def _apply(function: type[Function], *arguments: object) -> Tensor:
    return cast("Callable[..., Tensor]", function.apply)(*arguments)


class _ByInput(Function):
    """The layer as a function of x alone; what else it depends on comes in a tuple, where autograd does not see it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, hidden: tuple[Tensor, Tensor, Tensor | None], spec: str) -> Tensor:
        _, weight, shape = hidden
        ctx.save_for_backward(x, weight, shape)
        ctx.spec = spec
        return cast("Tensor", _OPS.kan_output(x, None, weight, shape, spec, 0))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, shape = ctx.saved_tensors
        return _OPS.kan_input(x, grads[0], weight, shape, ctx.spec, 1), None, None


class _ByParameters(Function):
    """Zeros in place of the layer's value, with the layer's gradients by its parameters."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, shape: Tensor | None, hidden: tuple[Tensor, Tensor, Tensor | None], spec: str) -> Tensor:
        x = hidden[0]
        ctx.save_for_backward(x, weight, shape)
        ctx.spec = spec
        return x.new_zeros(()).expand(x.shape[0], weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, shape = ctx.saved_tensors
        by_weight = _OPS.kan_weight(x, None, grads[0], shape, ctx.spec, 0) if ctx.needs_input_grad[0] else None
        by_shape = _by_shape(x, None, grads[0], weight, shape, ctx.spec, 0) if ctx.needs_input_grad[1] else None
        return by_weight, by_shape, None, None
