"""The three contractions as Triton kernels. A tile of φ_k is made in registers, multiplied, and thrown away.

With ``DOT`` tiles are multiplied by ``tl.dot``, which needs 16 outputs; for fewer, sums are taken element by element and added up
at the end.
"""
# Triton's compiler reads this, not Python: no types, no ``in``, and branches of constants must not return early.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,assignment,no-any-return"
# ruff: noqa: PLR1714

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl

from kanmlip.kan.triton.functions import advance, prepare, silu, value


class Shape(NamedTuple):
    """What else kernels are compiled for.

    Attributes:
        inputs: in.
        outputs: out.
        base: SiLU is the last column.
        scaled: There are factors v.
        rows: Rows of a tile.
        input_tile: Inputs of a tile.
        output_tile: Outputs of a tile.
        dot: Use ``tl.dot``.
        precision: Its ``input_precision`` for float32.
    """

    inputs: int
    outputs: int
    base: bool
    scaled: bool
    rows: int
    input_tile: int
    output_tile: int
    dot: bool
    precision: str


@triton.jit
def _load(pointer, n, i, rows, WIDTH: tl.constexpr):
    """Tile [n, i] of a matrix [rows, WIDTH], zero outside."""
    mask = (n < rows)[:, None] & (i < WIDTH)[None, :]
    return tl.load(pointer + n[:, None] * WIDTH + i[None, :], mask=mask, other=0.0)


@triton.jit
def _column(weight, o, k, i, F: tl.constexpr, S: tl.constexpr):
    """Tile W[o, k, i], zero outside."""
    mask = (o < S.outputs)[:, None] & (i < S.inputs)[None, :]
    row = o[:, None] * ((F.size + S.base) * S.inputs)
    return tl.load(weight + row + k * S.inputs + i[None, :], mask=mask, other=0.0)


@triton.jit
def _add_output(total, phi, w, S: tl.constexpr):
    """φ [n, i] and W [o, i] into [n, o], or without ``dot`` into [o, n, i]."""
    if S.dot:
        total = tl.dot(phi, tl.trans(w), total, input_precision=S.precision, out_dtype=total.dtype)
    else:
        total += phi[None, :, :] * w[:, None, :]
    return total


@triton.jit(do_not_specialize=["rows"])
def output_kernel(x, v, weight, table, y, rows, F: tl.constexpr, S: tl.constexpr):
    """Σ_ik v φ_k⁽ᵈ⁾(x) W_oki for a tile of rows (grid axis 0) and of outputs (axis 1)."""
    n = tl.program_id(0).to(tl.int64) * S.rows + tl.arange(0, S.rows)
    o = tl.program_id(1) * S.output_tile + tl.arange(0, S.output_tile)
    if S.dot:
        total = tl.zeros((S.rows, S.output_tile), x.dtype.element_ty)
    else:
        total = tl.zeros((S.output_tile, S.rows, S.input_tile), x.dtype.element_ty)
    for start in range(0, S.inputs, S.input_tile):
        i = start + tl.arange(0, S.input_tile)
        point = _load(x, n, i, rows, S.inputs)
        factor = point
        if S.scaled:
            factor = _load(v, n, i, rows, S.inputs)
        shared, c, s = prepare(point, F)
        for k in range(F.size):
            phi = value(k, point, shared, c, s, table, F)
            if S.scaled:
                phi *= factor
            total = _add_output(total, phi, _column(weight, o, k, i, F, S), S)
            c, s = advance(k, shared, c, s, F)
        if S.base:
            phi = silu(point, F.order)
            if S.scaled:
                phi *= factor
            total = _add_output(total, phi, _column(weight, o, F.size, i, F, S), S)
    mask = (n < rows)[:, None] & (o < S.outputs)[None, :]
    if not S.dot:
        total = tl.trans(tl.sum(total, axis=2))
    tl.store(y + n[:, None] * S.outputs + o[None, :], total, mask=mask)


@triton.jit
def _weighted(g, weight, n, k, i, rows, F: tl.constexpr, S: tl.constexpr):
    """Σ_o g_no W_oki for tiles of rows n and of inputs i: [n, i]."""
    total = tl.zeros((S.rows, S.input_tile), g.dtype.element_ty)
    if S.dot:
        for start in range(0, S.outputs, S.output_tile):
            o = start + tl.arange(0, S.output_tile)
            w = _column(weight, o, k, i, F, S)
            total = tl.dot(_load(g, n, o, rows, S.outputs), w, total, input_precision=S.precision, out_dtype=total.dtype)
    else:
        for o in range(S.outputs):
            w = tl.load(weight + (o * (F.size + S.base) + k) * S.inputs + i, mask=i < S.inputs, other=0.0)
            total += tl.load(g + n * S.outputs + o, mask=n < rows, other=0.0)[:, None] * w[None, :]
    return total


@triton.jit(do_not_specialize=["rows"])
def input_kernel(x, g, weight, table, z, rows, F: tl.constexpr, S: tl.constexpr):
    """Σ_ko φ_k⁽ᵈ⁾(x) W_oki g_no for a tile of rows (grid axis 0) and of inputs (axis 1)."""
    n = tl.program_id(0).to(tl.int64) * S.rows + tl.arange(0, S.rows)
    i = tl.program_id(1) * S.input_tile + tl.arange(0, S.input_tile)
    point = _load(x, n, i, rows, S.inputs)
    shared, c, s = prepare(point, F)
    total = tl.zeros((S.rows, S.input_tile), x.dtype.element_ty)
    for k in range(F.size):
        phi = value(k, point, shared, c, s, table, F)
        total += phi * _weighted(g, weight, n, k, i, rows, F, S)
        c, s = advance(k, shared, c, s, F)
    if S.base:
        total += silu(point, F.order) * _weighted(g, weight, n, F.size, i, rows, F, S)
    mask = (n < rows)[:, None] & (i < S.inputs)[None, :]
    tl.store(z + n[:, None] * S.inputs + i[None, :], total, mask=mask)


@triton.jit
def _sum_rows(x, v, g, table, first, last, o, k, i, rows, BASE: tl.constexpr, F: tl.constexpr, S: tl.constexpr):
    """Σ_n v φ_k⁽ᵈ⁾(x) g_no over the rows from first to last: [o, i]; SiLU in place of φ_k if ``BASE``."""
    if S.dot:
        total = tl.zeros((S.output_tile, S.input_tile), x.dtype.element_ty)
    else:
        total = tl.zeros((S.output_tile, S.rows, S.input_tile), x.dtype.element_ty)
    for start in range(first, last, S.rows):
        n = start + tl.arange(0, S.rows).to(tl.int64)
        point = _load(x, n, i, rows, S.inputs)
        if BASE:
            phi = silu(point, F.order)
        else:
            shared, c, s = prepare(point, F)
            if F.family == "wave" or F.family == "chebyshev":
                for step in range(k % (F.size // 2) if F.family == "wave" else k):
                    c, s = advance(step, shared, c, s, F)
            phi = value(k, point, shared, c, s, table, F)
        if S.scaled:
            phi *= _load(v, n, i, rows, S.inputs)
        factor = _load(g, n, o, rows, S.outputs)
        if S.dot:
            total = tl.dot(tl.trans(factor), phi, total, input_precision=S.precision, out_dtype=total.dtype)
        else:
            total += tl.trans(factor)[:, :, None] * phi[None, :, :]
    if not S.dot:
        total = tl.sum(total, axis=1)
    return total


@triton.jit(do_not_specialize=["rows", "share"])
def weight_kernel(x, v, g, table, partial, rows, share, F: tl.constexpr, S: tl.constexpr):
    """Σ_n v φ_k⁽ᵈ⁾(x) g_no over one share of the rows into partial [shares, out, columns, in].

    Grid: tiles of outputs × tiles of inputs, columns, shares; one column a program.
    """
    tiles = tl.cdiv(S.inputs, S.input_tile)
    o = (tl.program_id(0) // tiles) * S.output_tile + tl.arange(0, S.output_tile)
    i = (tl.program_id(0) % tiles) * S.input_tile + tl.arange(0, S.input_tile)
    k = tl.program_id(1)
    first = tl.program_id(2).to(tl.int64) * share
    last = tl.minimum(first + share, rows)
    if S.base:
        if k < F.size:
            total = _sum_rows(x, v, g, table, first, last, o, k, i, rows, False, F, S)
        else:
            total = _sum_rows(x, v, g, table, first, last, o, k, i, rows, True, F, S)
    else:
        total = _sum_rows(x, v, g, table, first, last, o, k, i, rows, False, F, S)
    columns = F.size + S.base
    row = (tl.program_id(2) * S.outputs + o)[:, None].to(tl.int64) * (columns * S.inputs)
    mask = (o < S.outputs)[:, None] & (i < S.inputs)[None, :]
    tl.store(partial + row + k * S.inputs + i[None, :], total, mask=mask)
