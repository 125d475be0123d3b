"""The families of functions that compiled kernels know; every other basis is evaluated by its own ``write``."""

from __future__ import annotations

from typing import NamedTuple


class LocalPolynomials(NamedTuple):
    """Shifted copies of one piecewise polynomial on a uniform grid, P pieces of degree D each.

    With t = (x − start)/spacing, j = ⌊t⌋ and f = t − j, only the functions k = j − P + 1 + m, m = 0 … P − 1, are not zero at x
    (those with 0 ≤ k < size exist), and φ_k⁽ᵈ⁾(x) = spacing^−d (d/df)^d Σ_p pieces[m][p] f^p.

    Attributes:
        size: Number of functions K.
        start: Where function 0 begins; function k begins at ``start`` + k ``spacing``.
        spacing: Length of an interval.
        pieces: Coefficients [P][D + 1] in the fraction f of an interval; m = 0 is a function's last piece.
    """

    size: int
    start: float
    spacing: float
    pieces: tuple[tuple[float, ...], ...]


class Gaussians(NamedTuple):
    """φ_k(x) = exp(−((x − c_k) s_k)²).

    Attributes:
        size: Number of functions K.
        centres: c_k; empty if ``Basis.shape`` gives them.
        inverse_widths: s_k; empty if ``Basis.shape`` gives them.
    """

    size: int
    centres: tuple[float, ...]
    inverse_widths: tuple[float, ...]


class Waves(NamedTuple):
    """cos(kωx) for k = 1 … n, then sin(kωx); ``size`` = 2 n, ``frequency`` = ω."""

    size: int
    frequency: float


class Chebyshev(NamedTuple):
    """T_k(tanh(x/width)) for k = 1 … size."""

    size: int
    width: float


Family = LocalPolynomials | Gaussians | Waves | Chebyshev
