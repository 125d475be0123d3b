"""The compiled kernels as operators that carry their functions as text: what can be recorded for programs without Python.

Python adds here what recording them needs: shapes, and the gradient by the inputs. There are no others, since such files hold trained
models and give energies and forces. A file made by AOTInductor holds the kernels as well (:mod:`kanmlip.export.with_kernels`).
"""

from __future__ import annotations

import functools
from typing import Any, cast

import torch
from torch import Tensor

from kanmlip.kan import backend_cpu

_LIBRARY = cast("Any", torch.library).Library("kanmlip_cpu", "FRAGMENT")
_REFUSED = "backend=native is for trained models: it has gradients by a layer's inputs only, and of first order; choose backend=auto"


@functools.cache
def load() -> bool:
    """Whether the operators are there, building their library the first time."""
    if not backend_cpu.available():
        return False
    torch.library.register_fake("kanmlip_cpu::kan", _fake, lib=_LIBRARY)
    torch.library.register_autograd("kanmlip_cpu::kan", _backward, setup_context=_save, lib=_LIBRARY)
    torch.library.register_fake("kanmlip_cpu::kan_slope", _fake_slope, lib=_LIBRARY)
    torch.library.register_autograd("kanmlip_cpu::kan_slope", _refuse, setup_context=lambda ctx, inputs, output: None, lib=_LIBRARY)
    return True


def layer(x: Tensor, weight: Tensor, gain: Tensor | None, inverse_scale: Tensor | None, shape: Tensor | None, functions: str) -> Tensor:
    """y_no = Σ_ik φ_k(x_ni/s_i) W_oki.

    Args:
        x: Inputs [N, in].
        weight: W [out, columns, in], or what times the gain is W.
        gain: [columns, 1]; none for ones.
        inverse_scale: 1/s [in]; none for ones.
        shape: Centres and inverse widths [2, K] of functions that do not say them.
        functions: ``Expansion.functions``.

    Returns:
        Outputs [N, out].
    """
    return cast("Tensor", torch.ops.kanmlip_cpu.kan(x, weight, gain, inverse_scale, shape, functions))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.functions = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    if any(ctx.needs_input_grad[1:]):
        raise NotImplementedError(_REFUSED)
    x, *others = ctx.saved_tensors
    return torch.ops.kanmlip_cpu.kan_slope(x, g, *others, ctx.functions), None, None, None, None, None


def _refuse(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    raise NotImplementedError(_REFUSED)


def _fake(x: Tensor, weight: Tensor, *_: Any) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


def _fake_slope(x: Tensor, g: Tensor, weight: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)
