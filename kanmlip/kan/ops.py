"""A KAN layer as three operators that are closed under differentiation: whatever order of derivative is asked for, they compute it.

Everything follows from T_d(x; v, g, W) = Σ_niko v_ni φ_k⁽ᵈ⁾(x_ni) W_oki g_no. The layer is ∂T₀/∂g at v = 1. The operators are T's
partial derivatives,

    kan_output  A_d = ∂T/∂g [N, out]    kan_weight  B_d = ∂T/∂W [out, columns, in]    kan_input  C_d = ∂T/∂v [N, in],

and ∂T/∂x = v C_{d+1}, so that the gradient of each is made of the others with d or d + 1. For functions φ((x − c_k) s_k) of
learnable centres and widths, ∂T/∂c and ∂T/∂s are sums of W B_{d+1} as well. None of them stores the expanded basis.

Compilers, tracers and scripts see ``torch.ops.kanmlip.*`` with registered gradients; eager mode takes the same formulas by a
shorter way, because a dispatched operator costs as much as a small layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from kanmlip.kan import gradients
from kanmlip.kan.backends import resolve
from kanmlip.kan.spec import read_settings

_LIBRARY = cast("Any", torch.library).Library("kanmlip", "FRAGMENT")
_LIBRARY.define("kan_output(Tensor x, Tensor? v, Tensor weight, Tensor? shape, str spec, int order) -> Tensor")
_LIBRARY.define("kan_weight(Tensor x, Tensor? v, Tensor g, Tensor? shape, str spec, int order) -> Tensor")
_LIBRARY.define("kan_input(Tensor x, Tensor g, Tensor weight, Tensor? shape, str spec, int order) -> Tensor")


def _output(x: Tensor, v: Tensor | None, weight: Tensor, shape: Tensor | None, spec: str, order: int) -> Tensor:
    return resolve(spec, x).output(x, v, weight, shape, order)


def _weight(x: Tensor, v: Tensor | None, g: Tensor, shape: Tensor | None, spec: str, order: int) -> Tensor:
    return resolve(spec, x).weight(x, v, g, shape, order)


def _input(x: Tensor, g: Tensor, weight: Tensor, shape: Tensor | None, spec: str, order: int) -> Tensor:
    return resolve(spec, x).input(x, g, weight, shape, order)


def _fake_output(x: Tensor, v: Tensor | None, weight: Tensor, shape: Tensor | None, spec: str, order: int) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


def _fake_weight(x: Tensor, v: Tensor | None, g: Tensor, shape: Tensor | None, spec: str, order: int) -> Tensor:
    return x.new_empty(g.shape[1], read_settings(spec)["columns"], x.shape[1])


def _fake_input(x: Tensor, g: Tensor, weight: Tensor, shape: Tensor | None, spec: str, order: int) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


_OPS = cast("Any", torch.ops).kanmlip
# The operators as compilers and tracers see them.
_REGISTERED = gradients.Calls(_OPS.kan_output, _OPS.kan_weight, _OPS.kan_input)


def layer(x: Tensor, weight: Tensor, shape: Tensor | None, spec: str, gain: Tensor | None = None, scale: Tensor | None = None) -> Tensor:
    """y_no = Σ_ik φ_k(x_ni/s_i) W_oki, differentiable three times.

    Args:
        x: Inputs [N, in].
        weight: W [out, columns, in], or what times the gain is W.
        shape: Centres and inverse widths [2, K] of the functions if they are learnable.
        spec: The functions, from ``Expansion.specs``.
        gain: [columns, 1], without gradient; none for ones. Kernels of weights that are not trained keep no product of both.
        scale: s [in], without gradient; none for ones.

    Returns:
        Outputs [N, out].
    """
    if recording(x):
        weight = weight if gain is None else weight * gain
        return _REGISTERED.output(x if scale is None else x / scale, None, weight, shape, spec, 0)
    return gradients.layer(x, weight, shape, spec, gain, scale)


def stack(x: Tensor, weights: Sequence[Tensor], specs: Sequence[str], gains: Sequence[Tensor], scales: Sequence[Tensor]) -> Tensor | None:
    """Layers in a row, each as ``layer`` computes it; if no weights are trained, hidden values are worked out again in the backward pass.

    Args:
        x: Inputs [N, in].
        weights: Of each layer, as are ``specs``, ``gains`` and ``scales``; for all these see ``layer``.

    Returns:
        Outputs [N, out]; none where there are no kernels for that, or something other than eager autograd looks on.
    """
    if recording(x):
        return None
    return gradients.stack(x, weights, specs, gains, scales)


def recording(x: Tensor) -> bool:
    """Whether something other than eager autograd looks on: compilers, make_fx, export, fake tensors, proxies, torch.jit.trace."""
    looked_on = torch.compiler.is_compiling() or not isinstance(x, Tensor) or bool(torch._C._len_torch_dispatch_stack())
    return looked_on or torch._C._get_tracing_state() is not None


def _output_backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
    return gradients.of_output(_REGISTERED, ctx, u)


def _weight_backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
    return gradients.of_weight(_REGISTERED, ctx, u)


def _input_backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
    return gradients.of_input(_REGISTERED, ctx, u)


for _name, _function, _fake, _backward in (
    ("kan_output", _output, _fake_output, _output_backward),
    ("kan_weight", _weight, _fake_weight, _weight_backward),
    ("kan_input", _input, _fake_input, _input_backward),
):
    _LIBRARY.impl(_name, _function, "CompositeExplicitAutograd")
    torch.library.register_fake(f"kanmlip::{_name}", _fake, lib=_LIBRARY)
    torch.library.register_autograd(f"kanmlip::{_name}", _backward, setup_context=gradients.save, lib=_LIBRARY)
