"""From an expansion and tensors to a launch: what a kernel is compiled for, its table of numbers, its grid."""

from __future__ import annotations

import contextlib
import functools
import math
from typing import Any, cast

import torch
from torch import Tensor

from kanmlip.kan.expansion import Expansion
from kanmlip.kan.family import Chebyshev, Gaussians, LocalPolynomials, Waves
from kanmlip.kan.triton.functions import Functions
from kanmlip.kan.triton.kernels import Shape, input_kernel, output_kernel, weight_kernel
from kanmlip.kan.triton.tuning import DOT_LEAST, Kernel, Tiles, choose

# Programs that a weight gradient is split into at least, if there are rows for it: four for each of an H200's 132 processors.
_PROGRAMS = 528
# Tiles of rows that one of them has at least.
_LEAST_TILES = 4


@functools.lru_cache(maxsize=1024)
def functions(expansion: Expansion, order: int) -> Functions | None:
    """What kernels are compiled for; None for a basis without a family. The expansion must not be changed afterwards."""
    zero = expansion.zero_preserving and order == 0
    match family := expansion.basis.family():
        case LocalPolynomials():
            return _local(family, order, zero)
        case Gaussians():
            return Functions("gaussian", family.size, order, zero)
        case Waves():
            return Functions("wave", family.size, order, zero, scale=family.frequency)
        case Chebyshev():
            return Functions("chebyshev", family.size, order, zero, scale=1 / family.width, factor=family.width**-order)
    return None


def _local(family: LocalPolynomials, order: int, zero: bool) -> Functions:
    size, start, spacing, pieces = family
    coefficients = [[c * spacing**-order for c in _differentiated(_centred(piece), order)] or [0.0] for piece in pieces]
    intervals = size + len(pieces) - 1
    before = intervals // 2
    # A quantum of which every knot is less than 2^24 multiples.
    reach = max(abs(start), abs(start + intervals * spacing)) + 2 * spacing
    quantum = 2.0 ** (math.ceil(math.log2(reach)) - 23)
    middle = start + before * spacing
    return Functions(
        "local",
        size,
        order,
        zero,
        scale=1 / spacing,
        middle=_split(middle, quantum),
        spacing=_split(spacing, quantum),
        before=before,
        pieces=len(pieces),
        terms=len(coefficients[0]),
        coefficients=tuple(c for piece in coefficients for c in piece),
    )


def _split(number: float, quantum: float) -> tuple[float, float]:
    """A multiple of the quantum and the rest."""
    coarse = round(number / quantum) * quantum
    return coarse, number - coarse


def _centred(piece: tuple[float, ...]) -> list[float]:
    """Coefficients in f − 1/2 of a polynomial in f: there they cancel least."""
    terms = len(piece)
    return [sum(piece[q] * math.comb(q, p) * 0.5 ** (q - p) for q in range(p, terms)) for p in range(terms)]


def _differentiated(coefficients: list[float], order: int) -> list[float]:
    """Coefficients of the d-th derivative, lowest power first; empty beyond the degree."""
    return [c * math.perm(power, order) for power, c in enumerate(coefficients)][order:]


@functools.lru_cache(maxsize=1024)
def _table(expansion: Expansion, order: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers that depend on k [3, K]: centres and inverse widths, or factors of cosine and sine, or degrees; then φ_k(0)."""
    family = expansion.basis.family()
    rows = torch.zeros(3, expansion.basis.num_basis, dtype=torch.float64)
    match family:
        case Gaussians():
            rows[0], rows[1] = torch.tensor([family.centres, family.inverse_widths], dtype=torch.float64)
        case Waves():
            count = family.size // 2
            # cos^(d) = cos, −sin, −cos, sin; a sine is a cosine three derivatives on.
            for part, phase in ((slice(0, count), order), (slice(count, None), order + 3)):
                size = (torch.arange(1, count + 1, dtype=torch.float64) * family.frequency) ** order
                rows[phase % 2, part] = size * (1.0, -1.0, -1.0, 1.0)[phase % 4]
        case Chebyshev():
            rows[0] = torch.arange(1, family.size + 1)
    if expansion.zero_preserving:
        rows[2] = expansion.offset.detach().squeeze(1).to(rows)
    return rows.to(dtype=dtype, device=device)


def numbers(expansion: Expansion, order: int, x: Tensor, shape: Tensor | None) -> Tensor:
    """The table that kernels read: ``shape`` [2, K] of a learnable basis, else constants [3, K]."""
    shape = expansion.basis.shape() if shape is None else shape
    return _table(expansion, order, x.dtype, x.device) if shape is None else shape.detach().to(x).contiguous()


def launch_output(
    expansion: Expansion, x: Tensor, v: Tensor | None, weight: Tensor, shape: Tensor | None, order: int, tiles: Tiles | None = None
) -> Tensor:
    """``contract_output`` for a basis with a family; ``tiles`` in place of the committed ones."""
    spec = cast("Functions", functions(expansion, order))
    rows, outputs = x.shape[0], weight.shape[0]
    y = x.new_empty(rows, outputs)
    plan, tiles = _shape("output", expansion, x, outputs, v is not None, tiles)
    grid = (_ceil(rows, plan.rows), _ceil(outputs, plan.output_tile))
    table = numbers(expansion, order, x, shape)
    _launch(output_kernel, grid, tiles, x, x if v is None else v, weight, table, y, rows, spec, plan)
    return y


def launch_input(
    expansion: Expansion, x: Tensor, g: Tensor, weight: Tensor, shape: Tensor | None, order: int, tiles: Tiles | None = None
) -> Tensor:
    """``contract_input`` for a basis with a family."""
    spec = cast("Functions", functions(expansion, order))
    rows, inputs = x.shape
    z = torch.empty_like(x)
    plan, tiles = _shape("input", expansion, x, weight.shape[0], False, tiles)
    grid = (_ceil(rows, plan.rows), _ceil(inputs, plan.input_tile))
    _launch(input_kernel, grid, tiles, x, g, weight, numbers(expansion, order, x, shape), z, rows, spec, plan)
    return z


def launch_weight(
    expansion: Expansion, x: Tensor, v: Tensor | None, g: Tensor, shape: Tensor | None, order: int, tiles: Tiles | None = None
) -> Tensor:
    """``contract_weight`` for a basis with a family; sums of shares of the rows, added up in a fixed order."""
    spec = cast("Functions", functions(expansion, order))
    (rows, inputs), outputs = x.shape, g.shape[1]
    plan, tiles = _shape("weight", expansion, x, outputs, v is not None, tiles)
    programs = _ceil(outputs, plan.output_tile) * _ceil(inputs, plan.input_tile)
    shares = max(1, min(_ceil(_PROGRAMS, programs * expansion.columns), _ceil(rows, plan.rows * _LEAST_TILES)))
    share = _ceil(_ceil(rows, shares), plan.rows) * plan.rows
    shares = _ceil(rows, share)
    partial = x.new_empty(shares, outputs, expansion.columns, inputs)
    grid = (programs, expansion.columns, shares)
    table = numbers(expansion, order, x, shape)
    _launch(weight_kernel, grid, tiles, x, x if v is None else v, g, table, partial, rows, share, spec, plan)
    return partial[0] if shares == 1 else partial.sum(0)


def _shape(kernel: Kernel, expansion: Expansion, x: Tensor, outputs: int, scaled: bool, tiles: Tiles | None) -> tuple[Shape, Tiles]:
    """What a kernel is compiled for; tiles are no larger than the layer needs."""
    inputs = x.shape[1]
    dot = outputs >= DOT_LEAST and (x.dtype == torch.float32 or _multiplies_doubles(x.device))
    tiles = choose(kernel, x.dtype, inputs, outputs) if tiles is None else tiles
    output_tile = min(tiles.outputs, _power_of_two(outputs)) if dot else min(tiles.outputs, _power_of_two(outputs), DOT_LEAST // 2)
    input_tile = max(min(tiles.inputs, _power_of_two(inputs)), DOT_LEAST if dot else 1)
    precision = tiles.precision if x.dtype == torch.float32 else "ieee"
    return Shape(inputs, outputs, expansion.base, scaled, tiles.rows, input_tile, output_tile, dot, precision), tiles


@functools.cache
def _multiplies_doubles(device: torch.device) -> bool:
    """Whether ``tl.dot`` knows float64 there: from compute capability 8 on."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device)[0] >= 8


def _launch(kernel: Any, grid: tuple[int, ...], tiles: Tiles, *arguments: object) -> None:
    x = cast("Tensor", arguments[0])
    with torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext():
        kernel[grid](*arguments, num_warps=tiles.warps, num_stages=tiles.stages, enable_fp_fusion=True)


def _ceil(count: int, size: int) -> int:
    return -(-count // size)


def _power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()
