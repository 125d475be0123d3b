"""The partial derivatives of T(x, v, g, W) = Σ_niko v_ni φ_k⁽ᵈ⁾(x_ni) W_oki g_no in plain PyTorch, in one pass over blocks of rows.

The basis of a block is expanded in cache and thrown away: nothing of size N × in × K is ever stored.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from kanmlip.kan.expansion import Expansion
from kanmlip.kan.memory import pool

# Elements of one block of expanded basis: on a CPU a few of them fit a core's cache, on a GPU they only bound the memory.
_BLOCK_CPU = 1 << 19
_BLOCK_GPU = 1 << 26


class Form(NamedTuple):
    """T for the functions of ``expansion``, differentiated ``order`` times, with a basis's learnable ``shape`` where it has one."""

    expansion: Expansion
    order: int = 0
    shape: Tensor | None = None


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
    expansion, order, shape = form
    rows, width = x.shape
    size = expansion.columns * width
    by_x = torch.empty_like(x) if wanted.x else None
    by_v = torch.empty_like(x) if wanted.v else None
    flat = None if weight is None else weight.reshape(-1, size)
    by_g = None if flat is None or not wanted.g else x.new_empty(rows, flat.shape[0])
    by_weight = None if g is None or not wanted.weight else x.new_zeros(g.shape[1], size)
    orders = [order] * (wanted.v or wanted.g or wanted.weight) + [order + 1] * wanted.x
    step = max(1, min(rows, (_BLOCK_GPU if x.is_cuda else _BLOCK_CPU) // max(size, 1)))
    room = expansion.buffer_shape(x, step, orders)
    multiplied = wanted.x or wanted.v
    with pool.lend(x, [math.prod(room)] * len(orders) + [step * size] * multiplied) as memory:
        buffers = [piece.view(room) for piece in memory[: len(orders)]]
        for first in range(0, rows, step):
            block = slice(first, first + step)
            n = min(step, rows - first)
            functions = dict(zip(orders, expansion.write(x[block], orders, buffers, shape), strict=True))
            if multiplied and g is not None and flat is not None:
                product = memory[-1].view(step, size)[:n]
                gw = torch.mm(g[block], flat, out=product).view(n, expansion.columns, width)
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
