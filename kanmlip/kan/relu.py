"""Bumps made of powers of ReLU on a uniform grid (ReLU-KAN, arXiv 2406.02075; AF-KAN)."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

from kanmlip.kan.local import LocalBasis, check_order

ORDERS = (1, 2, 3, 4, 5)
# Intervals that a bump covers; ReLU-KAN's k + 1 with its k = 3.
_SUPPORT = 4


class ReLUPower(LocalBasis):
    """φ_k(x) = [relu(e_k − x) relu(x − s_k) · 4/(e_k − s_k)²]^p, the grid + 3 bumps of height 1 that reach into the grid.

    Each covers e_k − s_k = 4 intervals. ReLU-KAN's p is 2, whose force constants jump where a bump ends.

    Args:
        grid: Intervals between ``grid_min`` and ``grid_max``.
        order: Power p, 1 to 5; p − 1 derivatives are continuous.
        grid_min: Left end of the grid.
        grid_max: Right end of the grid.

    Raises:
        ValueError: If ``order`` is not one of the choices or the grid is empty.
    """

    def __init__(self, grid: int = 5, order: int = 3, grid_min: float = -3.0, grid_max: float = 3.0) -> None:
        check_order(order, ORDERS)
        super().__init__(grid, grid_min, grid_max, smoothness=order - 1, pieces=_pieces(order))
        self.order = order

    def bump(self, t: Tensor, derivative: int = 0) -> Tensor:
        """See :meth:`LocalBasis.bump`; φ = w^p with w = (1 − u)₊(1 + u)₊, u = t/2, so that w' = −2u and w'' = −2."""
        u = t / (_SUPPORT / 2)
        w = torch.relu(1 - u) * torch.relu(1 + u)
        p = self.order
        if derivative == 0:
            return w.pow(p)
        u = u.clamp(-1, 1)  # u³ times zero must not overflow far outside
        if derivative == 1:
            total = -2 * p * u * _power(w, p - 1)
        elif derivative == 2:
            total = 4 * p * (p - 1) * u.square() * _power(w, p - 2) - 2 * p * _power(w, p - 1)
        else:
            total = 12 * p * (p - 1) * u * _power(w, p - 2) - 8 * p * (p - 1) * (p - 2) * u.pow(3) * _power(w, p - 3)
        return total / (_SUPPORT / 2 * self.spacing) ** derivative


def _power(w: Tensor, exponent: int) -> Tensor:
    """w^exponent for w ≥ 0; a step for 0. Negative exponents only ever have the factor zero."""
    return w.pow(exponent) if exponent > 0 else (w > 0).to(w.dtype)


def _pieces(order: int) -> tuple[tuple[float, ...], ...]:
    """Polynomials [4][2p + 1] of [(i + f)(4 − i − f)/4]^p in the fraction f of interval i, the last interval first."""
    rows = []
    for i in reversed(range(_SUPPORT)):
        factor = [Fraction(i * (_SUPPORT - i), 4), Fraction(_SUPPORT - 2 * i, 4), Fraction(-1, 4)]
        row = [Fraction(1)]
        for _ in range(order):
            row = [sum((row[q - s] * factor[s] for s in range(3) if 0 <= q - s < len(row)), Fraction(0)) for q in range(len(row) + 2)]
        rows.append(tuple(float(c) for c in row))
    return tuple(rows)
