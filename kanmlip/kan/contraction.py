"""The sums of a KAN layer as autograd functions that are closed under differentiation and store no expanded basis.

Everything follows from T(x, v, g, W) = Σ_niko v_ni φ_k⁽ᵈ⁾(x_ni) W_oki g_no. The layer is ∂T/∂g at v = 1, and the derivatives of T's
partial derivatives are partial derivatives of such sums again, with d or d + 1. ``partials`` computes any of them in one pass over
blocks of rows; the basis of a block is expanded in cache and thrown away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd import Function

from kanmlip.kan.expansion import Expansion

# Elements of one block of expanded basis: on a CPU a few of them fit a core's cache, on a GPU they only bound the memory.
_BLOCK_CPU = 1 << 19
_BLOCK_GPU = 1 << 26


class Form(NamedTuple):
    """T for the functions of ``expansion``, differentiated ``order`` times."""

    expansion: Expansion
    order: int = 0


class Wanted(NamedTuple):
    """Which partial derivatives of T to compute."""

    x: bool = False
    v: bool = False
    g: bool = False
    weight: bool = False


class Partials(NamedTuple):
    """Partial derivatives of T by x [N, in], v [N, in], g [N, out] and W [out, columns, in]; None where not wanted."""

    x: Tensor | None
    v: Tensor | None
    g: Tensor | None
    weight: Tensor | None


def layer(x: Tensor, weight: Tensor, expansion: Expansion) -> Tensor:
    """y_no = Σ_ik φ_k(x_ni) W_oki, differentiable three times.

    Args:
        x: Inputs [N, in].
        weight: W [out, columns, in].
        expansion: The functions φ_k.

    Returns:
        Outputs [N, out].
    """
    form = Form(expansion)
    # Two nodes, one an input: autograd computes every gradient of a node that it visits, so that a single one would work out
    # the weights' gradient in grad(energy, positions) too, where nobody asked for it (pytorch issues 56500, 174017).
    if not (weight.requires_grad and torch.is_grad_enabled()):
        return _call(_ByInput, x, (weight,), form)
    if not x.requires_grad:
        return _call(_ByWeight, weight, (x,), form, True)
    return _call(_ByInput, x, (weight,), form) + _call(_ByWeight, weight, (x,), form, False)


def partials(form: Form, x: Tensor, v: Tensor | None, g: Tensor | None, weight: Tensor | None, *, wanted: Wanted) -> Partials:
    """Any partial derivatives of T, without a graph.

    Args:
        form: φ_k and d.
        x: Points [N, in].
        v: Factors [N, in]; None stands for 1.
        g: Factors [N, out]; may be None if only the derivative by g is wanted.
        weight: W [out, columns, in]; may be None if only the derivative by W is wanted.
        wanted: Which ones.
    """
    expansion, order = form
    rows, width = x.shape
    size = expansion.columns * width
    by_x = torch.empty_like(x) if wanted.x else None
    by_v = torch.empty_like(x) if wanted.v else None
    flat = None if weight is None else weight.reshape(-1, size)
    by_g = None if flat is None or not wanted.g else x.new_empty(rows, flat.shape[0])
    by_weight = None if g is None or not wanted.weight else x.new_zeros(g.shape[1], size)
    orders = [order] * (wanted.v or wanted.g or wanted.weight) + [order + 1] * wanted.x
    step = max(1, min(rows, (_BLOCK_GPU if x.is_cuda else _BLOCK_CPU) // max(size, 1)))
    buffers = [expansion.buffer(x, step) for _ in orders]
    product = x.new_empty(step, size) if wanted.x or wanted.v else None
    for first in range(0, rows, step):
        block = slice(first, first + step)
        functions = dict(zip(orders, expansion.write(x[block], orders, buffers), strict=True))
        n = min(step, rows - first)
        if product is not None and g is not None and flat is not None:
            gw = torch.mm(g[block], flat, out=product[:n]).view(n, expansion.columns, width)
            if by_x is not None:
                torch.sum(functions[order + 1].mul_(gw), dim=1, out=by_x[block])
            if by_v is not None:
                torch.sum(gw.mul_(functions[order]), dim=1, out=by_v[block])
        if wanted.g or wanted.weight:
            phi = functions[order] if v is None else functions[order].mul_(v[block].unsqueeze(1))
            matrix = phi.view(n, size)
            if by_g is not None and flat is not None:
                torch.mm(matrix, flat.t(), out=by_g[block])
            if by_weight is not None and g is not None:
                by_weight.addmm_(g[block].t(), matrix)
    if by_x is not None and v is not None:
        by_x.mul_(v)
    return Partials(by_x, by_v, by_g, None if by_weight is None else by_weight.view(-1, expansion.columns, width))


def _call(function: type[Function], *arguments: object) -> Tensor:
    return cast("Callable[..., Tensor]", function.apply)(*arguments)


def _gradients(form: Form, x: Tensor, v: Tensor | None, g: Tensor, weight: Tensor, *, wanted: Wanted) -> Partials:
    """``partials``, with a graph if a graph is being built."""
    if not torch.is_grad_enabled():
        return partials(form, x, v, g, weight, wanted=wanted)
    by_x = _call(_ByFactor, x, g, weight, Form(form.expansion, form.order + 1)) if wanted.x else None
    return Partials(
        by_x if by_x is None or v is None else v * by_x,
        _call(_ByFactor, x, g, weight, form) if wanted.v else None,
        _call(_ByOutput, x, v, weight, form) if wanted.g else None,
        _call(_ByOuter, x, v, g, form) if wanted.weight else None,
    )


class _ByInput(Function):
    """The layer as a function of x alone; the weights come in a tuple, where autograd does not see them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, hidden: tuple[Tensor], form: Form) -> Tensor:
        ctx.save_for_backward(x, hidden[0])
        ctx.form = form
        return cast("Tensor", partials(form, x, None, None, hidden[0], wanted=Wanted(g=True)).g)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        return _gradients(ctx.form, x, None, grads[0], weight, wanted=Wanted(x=True)).x, None, None


class _ByWeight(Function):
    """The layer as a function of W alone; gives zeros where ``_ByInput`` gives the value."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, hidden: tuple[Tensor], form: Form, value: bool) -> Tensor:
        x = hidden[0]
        ctx.save_for_backward(x, weight)
        ctx.form = form
        if value:
            return cast("Tensor", partials(form, x, None, None, weight, wanted=Wanted(g=True)).g)
        return x.new_zeros(x.shape[0], weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        return _gradients(ctx.form, x, None, grads[0], weight, wanted=Wanted(weight=True)).weight, None, None, None


class _ByFactor(Function):
    """∂T/∂v = Σ_ko φ_k⁽ᵈ⁾(x_ni) W_oki g_no, [N, in]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, g: Tensor, weight: Tensor, form: Form) -> Tensor:
        ctx.save_for_backward(x, g, weight)
        ctx.form = form
        return cast("Tensor", partials(form, x, None, g, weight, wanted=Wanted(v=True)).v)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, g, weight = ctx.saved_tensors
        need = ctx.needs_input_grad
        result = _gradients(ctx.form, x, grads[0], g, weight, wanted=Wanted(x=need[0], g=need[1], weight=need[2]))
        return result.x, result.g, result.weight, None


class _ByOutput(Function):
    """∂T/∂g = Σ_ik v_ni φ_k⁽ᵈ⁾(x_ni) W_oki, [N, out]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, v: Tensor | None, weight: Tensor, form: Form) -> Tensor:
        ctx.save_for_backward(x, v, weight)
        ctx.form = form
        return cast("Tensor", partials(form, x, v, None, weight, wanted=Wanted(g=True)).g)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, v, weight = ctx.saved_tensors
        need = ctx.needs_input_grad
        result = _gradients(ctx.form, x, v, grads[0], weight, wanted=Wanted(x=need[0], v=need[1], weight=need[2]))
        return result.x, result.v, result.weight, None


class _ByOuter(Function):
    """∂T/∂W = Σ_n v_ni φ_k⁽ᵈ⁾(x_ni) g_no, [out, columns, in]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, v: Tensor | None, g: Tensor, form: Form) -> Tensor:
        ctx.save_for_backward(x, v, g)
        ctx.form = form
        return cast("Tensor", partials(form, x, v, g, None, wanted=Wanted(weight=True)).weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, v, g = ctx.saved_tensors
        need = ctx.needs_input_grad
        result = _gradients(ctx.form, x, v, g, grads[0], wanted=Wanted(x=need[0], v=need[1], g=need[2]))
        return result.x, result.v, result.g, None
