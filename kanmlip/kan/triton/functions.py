"""Basis functions on tiles in registers: what the three kernels share. Device code; see ``family`` for the formulas.

A tile x is prepared once (``prepare``), then gives φ_k⁽ᵈ⁾(x) for k = 0, 1, 2 … (``value``, with ``advance`` between two k).
"""
# Triton's compiler reads this, not Python: no types, no ``in``, and branches of constants must not return early.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,assignment,no-any-return"
# ruff: noqa: RET505, SIM108, PLR0124, PLR1714, RUF005

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl

# Coefficients of (e^r − 1 − r)/r² below 1/5040, highest power first.
_TAYLOR = tl.constexpr((1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2))


class Functions(NamedTuple):
    """What kernels are compiled for; numbers that depend on k come in a table [3, K] (``launch.table``).

    Attributes:
        family: ``local``, ``gaussian``, ``wave`` or ``chebyshev``.
        size: Number of functions K.
        order: Order of differentiation d.
        zero: Subtract φ_k(0); only ever set at order 0.
        scale: What x is multiplied with: intervals per length, ω, or 1/width.
        factor: scale^d of Chebyshev polynomials; for the others it is in the table or the coefficients.
        middle: A knot near the middle of the grid, from which intervals are counted, in two parts: knot j is the sum of
            middle[0] + j spacing[0], which float32 holds exactly, and middle[1] + j spacing[1]. So x less a knot near it is exact.
        spacing: Length of an interval in two parts.
        before: Intervals of all functions' support that lie before the middle.
        pieces: Number of pieces P of a local function.
        terms: Coefficients of a piece.
        coefficients: P × terms numbers of the d-th derivative, lowest power first, in f − 1/2 for the fraction f of an interval.
    """

    family: str
    size: int
    order: int
    zero: bool
    scale: float = 1.0
    factor: float = 1.0
    middle: tuple[float, float] = (0.0, 0.0)
    spacing: tuple[float, float] = (0.0, 0.0)
    before: int = 0
    pieces: int = 0
    terms: int = 0
    coefficients: tuple[float, ...] = ()


@triton.jit
def prepare(x, F: tl.constexpr):
    """What all k share of a tile x: a tuple of tiles, and two that go from k to k + 1."""
    if F.family == "local":
        return _intervals(x, F), x, x
    elif F.family == "gaussian":
        return (), x, x
    elif F.family == "wave":
        cos, sin = tl.cos(x * F.scale), tl.sin(x * F.scale)
        return (cos, sin), cos, sin
    else:
        y = x * F.scale
        tanh, sin = _squash(tl.abs(y))
        cos = tl.where(y < 0, -tanh, tanh)
        return (cos, sin), cos, sin


@triton.jit
def _intervals(x, F: tl.constexpr):
    """Number of the first function that begins after x's interval, less P; 0 (NaN where x is); the P polynomials' values."""
    t = (x - F.middle[0]) * F.scale
    # One interval to either side of the support is enough, and keeps the integer small whatever x is.
    left = tl.floor(tl.minimum(tl.maximum(t, -1.0 - F.before), F.size + F.pieces - F.before))
    f = ((x - (left * F.spacing[0] + F.middle[0])) - (left * F.spacing[1] + F.middle[1])) * F.scale - 0.5
    first = left.to(tl.int32) + (F.before - F.pieces + 1)
    tiles = (first, tl.where(x != x, x, 0.0))
    for p in tl.static_range(F.pieces):
        value = tl.full(f.shape, F.coefficients[p * F.terms + F.terms - 1], f.dtype)
        for q in tl.static_range(1, F.terms):
            value = value * f + F.coefficients[p * F.terms + F.terms - 1 - q]
        tiles = tiles + (value,)
    return tiles


@triton.jit
def _squash(y):
    """tanh y and sech y for y ≥ 0."""
    if y.dtype == tl.float32:
        # Any error is multiplied by k, so that e^−y = 2^−n (1 + p) and all sums are carried as rounded values and their errors.
        y = tl.where(y > 100.0, 100.0, y)
        n = tl.floor(y * 1.4426950408889634 + 0.5)
        r = (n * 0.693359375 - y) - n * 2.12194440e-4
        p = tl.full(r.shape, 1 / 5040, r.dtype)
        for q in tl.static_range(5):
            p = p * r + _TAYLOR[q]
        p = r + r * r * p
        scale = tl.exp2(-n)
        square = scale * scale
        change = square * (p * (2 + p))
        above, below, decay = (1 - square) - change, (1 + square) + change, 1 + p
        above_error = ((1 - square) - above) - change
        below_error = ((1 + square) - below) + change
        decay_error = 2 * scale * ((1 - decay) + p)
        inverse = 1 / below
        tanh, sech = tl.div_rn(above, below), tl.div_rn(2 * scale * decay, below)
        return tanh + (above_error - tanh * below_error) * inverse, sech + (decay_error - sech * below_error) * inverse
    else:
        decay = tl.exp(-y)
        square = decay * decay
        return (1 - square) / (1 + square), 2 * decay / (1 + square)


@triton.jit
def value(k, x, shared, c, s, table, F: tl.constexpr):
    """φ_k⁽ᵈ⁾ of a tile, less φ_k(0) if wanted."""
    offset = 0.0
    if F.family == "local":
        m = k - shared[0]
        phi = shared[1]
        for p in tl.static_range(F.pieces):
            phi = tl.where(m == p, shared[2 + p], phi)
        if F.zero:
            offset = tl.load(table + 2 * F.size + k)
    elif F.family == "gaussian":
        centre, inverse = tl.load(table + k), tl.load(table + F.size + k)
        phi = _gaussian((x - centre) * inverse, inverse, F.order)
        if F.zero:
            start = centre * inverse
            offset = tl.exp(-(start * start))
    elif F.family == "wave":
        phi = tl.load(table + k) * c + tl.load(table + F.size + k) * s
        if F.zero:
            offset = tl.load(table + 2 * F.size + k)
    else:
        phi = _chebyshev(tl.load(table + k), c, s, shared[0], shared[1], F.order) * F.factor
        if F.zero:
            offset = tl.load(table + 2 * F.size + k)
    if F.zero:
        # By comparison, so that f(0) = 0 to the last bit however the two terms were rounded.
        phi = tl.where(x == 0, 0.0, phi - offset)
    return phi


@triton.jit
def advance(k, shared, c, s, F: tl.constexpr):
    """From cos kθ and sin kθ to k + 1 by the addition theorem; the sines of ``wave`` begin with k = 1 again."""
    if F.family == "wave" or F.family == "chebyshev":
        cos, sin = shared[0], shared[1]
        c, s = c * cos - s * sin, s * cos + c * sin
        if F.family == "wave":
            restart = k == F.size // 2 - 1
            c, s = tl.where(restart, cos, c), tl.where(restart, sin, s)
    return c, s


@triton.jit
def _gaussian(u, inverse, ORDER: tl.constexpr):
    """d-th derivative of exp(−u²) by x, from order to order: powers of u would overflow where the exponential is zero."""
    phi = tl.exp(-(u * u))
    if ORDER >= 1:
        rate = -2 * inverse
        slope = rate * (u * phi)
        if ORDER >= 2:
            curvature = rate * (u * slope + inverse * phi)
            if ORDER == 3:
                phi = rate * (u * curvature + 2 * inverse * slope)
            else:
                phi = curvature
        else:
            phi = slope
    return phi


@triton.jit
def _chebyshev(k, c, s, cos, sin, ORDER: tl.constexpr):
    """d-th derivative of cos kθ by y, as in ``chebyshev._combine``."""
    if ORDER == 0:
        return c
    elif ORDER == 1:
        return k * (sin * s)
    elif ORDER == 2:
        return -k * (sin * (cos * s + k * (sin * c)))
    else:
        return k * (sin * ((cos * cos - (1 + k * k) * (sin * sin)) * s + 3 * k * (sin * cos * c)))


@triton.jit
def silu(x, ORDER: tl.constexpr):
    """d-th derivative of x σ(x), from σ' = σ(1 − σ)."""
    sigmoid = 1 / (1 + tl.exp(-x))
    slope = sigmoid * (1 - sigmoid)
    if ORDER == 0:
        return x * sigmoid
    elif ORDER == 1:
        return sigmoid + x * slope
    elif ORDER == 2:
        return slope * (2 + x * (1 - 2 * sigmoid))
    else:
        return slope * (3 * (1 - 2 * sigmoid) + x * (1 - 6 * slope))
