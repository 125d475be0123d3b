"""B-splines of order 2 to 5 on a uniform grid by their closed form, without the Cox–de Boor recursion."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import comb, factorial

import torch
from torch import Tensor

from kanmlip.kan.basis import TOGETHER
from kanmlip.kan.local import LocalBasis, check_order
from kanmlip.kan.memory import scratch

ORDERS = (2, 3, 4, 5)
# Up to so many cubics it takes less time to work out all of them than to find the four that are not zero and put them in place.
_FEW = 10


class BSpline(LocalBasis):
    """The grid + p B-splines of order p with knots h apart that reach into [grid_min, grid_max] (Liu et al. 2024, arXiv 2404.19756).

    The knots go on beyond the grid, so that each function falls to zero within p h outside it and has p − 1 continuous
    derivatives on the whole line.

    Args:
        grid: Intervals between ``grid_min`` and ``grid_max``; the paper uses 5, and 3 for MACE.
        order: Degree p of the polynomials, 2 to 5. Force constants jump at the knots with 2.
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
        """See :meth:`LocalBasis.bump`; M(t) = Σ_j (−1)^j C(p + 1, j) ((p + 1)/2 − j − |t|)₊^p / p!."""
        power = self.order - derivative
        if power < 0:
            return torch.zeros_like(t)
        total = self._power_sum(t, power) / (factorial(power) * self.spacing**derivative)
        return torch.where(t < 0, total, -total) if derivative % 2 else total

    def each(self, x: Tensor) -> list[Tensor]:
        """See :meth:`Basis.each`; ``bump`` with the p-th root of its factor 1/p! in what is raised to the power p."""
        root = factorial(self.order) ** (-1 / self.order)
        t = x * (root / self.spacing)
        first = self.grid_min / self.spacing + 1 - len(self.pieces) / 2
        return [self._power_sum(t - root * (first + k), self.order, root) for k in range(self.num_basis)]

    def _power_sum(self, t: Tensor, power: int, unit: float = 1.0) -> Tensor:
        """Σ_j (−1)^j C(p + 1, j) (((p + 1)/2 − j) ``unit`` − |t|)₊^``power`` for the order p."""
        # Not abs(): its derivative is zero at zero, which would make the second derivative of M wrong there. Times a sign, and less the
        # distance: few operations in the gradient.
        below = torch.where(t < 0, 1.0, -1.0).to(t) * t
        total = t
        for j in range((self.order + 2) // 2):
            reach = ((self.order + 1) / 2 - j) * unit
            # A step is taken from the right, as ``write`` does: a mixture of sides would not be the derivative of any sum.
            term = torch.relu(below + reach).pow(power) if power else ((t >= -reach) & (t < reach)).to(t.dtype)
            total = term if j == 0 else total + (-1) ** j * comb(self.order + 1, j) * term
        return total

    def padding(self, orders: Sequence[int]) -> int:
        """See :meth:`Basis.padding`; none where ``write`` works out all functions everywhere."""
        few = self.num_basis <= _FEW or tuple(orders) == TOGETHER
        return 0 if self.order == 3 and few and max(orders) <= 2 else self.pad

    def write(self, x: Tensor, orders: Sequence[int], outs: Sequence[Tensor], shape: Tensor | None = None) -> None:
        """See :meth:`Basis.write`; few cubics, and those of a small layer, are worked out everywhere, which takes fewer operators."""
        if self.padding(orders):
            super().write(x, orders, outs, shape)
            return
        own = [out[:, : self.num_basis] for out in outs]
        _write_cubic((x / self.spacing).unsqueeze(1), self.centres.unsqueeze(-1) / self.spacing, self.spacing, orders, own)

    def local_values(self, f: Tensor, derivative: int, scale: float) -> Tensor:
        """See :meth:`LocalBasis.local_values`; the cubic with fewer roundings and passes than its polynomials need."""
        return _cubic(f, derivative, scale) if self.order == 3 else super().local_values(f, derivative, scale)


def _pieces(order: int) -> tuple[tuple[float, ...], ...]:
    """Polynomials [p + 1][p + 1] of one B-spline in the fraction f of an interval, the last interval first.

    On interval i of its support it is Σ_{j ≤ i} (−1)^j C(p + 1, j) (f + i − j)^p / p!; exact until the last rounding.
    """
    rows = []
    for i in reversed(range(order + 1)):
        row = [
            Fraction(sum((-1) ** j * comb(order + 1, j) * comb(order, q) * (i - j) ** (order - q) for j in range(i + 1)), factorial(order))
            for q in range(order + 1)
        ]
        rows.append(tuple(float(c) for c in row))
    return tuple(rows)


def _write_cubic(x: Tensor, centres: Tensor, spacing: float, orders: Sequence[int], outs: Sequence[Tensor]) -> None:
    """M, M' and M'' of t = x − c: a³ − 4 b³, −sign(t) (a² − 4 b²) and a − 4 b, up to factors, with a = (2 − |t|)₊ and b = (1 − |t|)₊.

    In few passes over memory that is there already: x [n, 1, in] and centres [K, 1] in units of the spacing, outs [n, K, in] for
    orders that are among 0, 1 and 2.
    """
    out = dict(zip(orders, outs, strict=True))
    b, square = scratch(x, 2 * outs[0].numel()).view(2, *outs[0].shape)
    a = out.get(0, out.get(2, square))
    torch.sub(centres, x, out=b)
    if 1 in out:
        torch.sign(b, out=out[1])
    b.abs_()
    torch.sub(2, b, out=a).clamp_min_(0)
    torch.sub(1, b, out=b).clamp_min_(0)
    if 1 in out:
        torch.mul(a, a, out=square).addcmul_(b, b, value=-4)
        out[1].mul_(square.mul_(0.5 / spacing))
    if 2 in out:
        torch.sub(a, b, alpha=4, out=out[2]).mul_(spacing**-2)
    if 0 in out:
        a.pow_(3).sub_(b.pow_(3), alpha=4).mul_(1 / 6)


def _cubic(f: Tensor, derivative: int, scale: float) -> Tensor:
    """The four cubic B-splines of an interval or their derivatives by f, times ``scale``, at its fraction f: [n, in] → [4, n, in]."""
    values = f.new_empty(4, *f.shape)
    mirror = 1 - f
    if derivative == 0:
        both = torch.stack((mirror, f))
        torch.mul(both, both, out=values[::3]).mul_(both).mul_(scale / 6)
        product = (mirror * f).add_(1).mul_(scale / 2)
        torch.mul(both, product, out=values[1:3]).add_(scale / 6)
    elif derivative == 1:
        torch.mul(mirror, mirror, out=values[0]).mul_(-scale / 2)
        torch.mul(f, mirror.mul(-1.5 * scale).sub_(scale / 2), out=values[1])
        torch.mul(mirror, f.mul(1.5 * scale).add_(scale / 2), out=values[2])
        torch.mul(f, f, out=values[3]).mul_(scale / 2)
    elif derivative == 2:
        torch.mul(mirror, scale, out=values[0])
        torch.sub(scale, values[0], alpha=3, out=values[1])
        torch.mul(f, scale, out=values[3])
        torch.sub(scale, values[3], alpha=3, out=values[2])
    else:
        for k, jump in enumerate((-1.0, 3.0, -3.0, 1.0)):
            values[k] = scale * jump
    return values
