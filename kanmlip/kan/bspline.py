"""Cubic B-splines on a uniform grid by their closed form, without the Cox–de Boor recursion."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kanmlip.kan.basis import Basis, check_count, check_derivative, check_grid
from kanmlip.kan.family import LocalPolynomials


class BSpline(Basis):
    """The grid + 3 cubic B-splines with knots h apart that reach into [grid_min, grid_max] (Liu et al. 2024, arXiv 2404.19756).

    The knots go on beyond the grid, so that each function falls to zero within 3 h outside it and is C² on the whole line.

    Args:
        grid: Intervals between ``grid_min`` and ``grid_max``; the paper uses 5, and 3 for MACE.
        order: Degree of the polynomials, 3.
        grid_min: Left end of the grid.
        grid_max: Right end of the grid.

    Raises:
        ValueError: If ``order`` is not 3 or the grid is empty.
    """

    centres: Tensor
    pad = 3  # the four functions of an interval beyond the first or last grid interval need not all exist

    def __init__(self, grid: int = 5, order: int = 3, grid_min: float = -3.0, grid_max: float = 3.0) -> None:
        if order != 3:
            raise ValueError(f"order={order} is not known; choose from: 3 (lower orders have discontinuous forces or force constants)")
        check_count("grid", grid, 1)
        check_grid(grid_min, grid_max)
        super().__init__(grid + order)
        self.grid = grid
        self.order = order
        self.grid_min = grid_min
        self.grid_max = grid_max
        self.spacing = (grid_max - grid_min) / grid
        self.register_constants()

    def constants(self) -> dict[str, Tensor]:
        """Centres c_k [K], from one interval left of the grid to one right of it."""
        return {"centres": self.grid_min + self.spacing * torch.arange(-1, self.grid + 2, dtype=torch.float64)}

    def evaluate(self, x: Tensor, derivative: int = 0) -> Tensor:
        """See :meth:`Basis.evaluate`; M(t) = [(2 − |t|)₊³ − 4 (1 − |t|)₊³]/6, t = (x − c_k)/h."""
        check_derivative(derivative)
        t = (x.unsqueeze(-1) - self.centres) / self.spacing
        # Not abs(): its derivative is zero at zero, which would make the second derivative of M wrong there.
        negative = t < 0
        distance = torch.where(negative, -t, t)
        outer = torch.relu(2 - distance)
        inner = torch.relu(1 - distance)
        if derivative == 0:
            return (outer.pow(3) - 4 * inner.pow(3)) / 6
        if derivative == 1:
            slope = (outer.square() - 4 * inner.square()) / (2 * self.spacing)
            return torch.where(negative, slope, -slope)
        if derivative == 2:
            return (outer - 4 * inner) / self.spacing**2
        jump = ((distance < 2).to(t.dtype) - 4 * (distance < 1).to(t.dtype)) / self.spacing**3
        return torch.where(negative, jump, -jump)

    def family(self) -> LocalPolynomials:
        """See :meth:`Basis.family`."""
        sixth = 1 / 6
        pieces = (
            (sixth, -0.5, 0.5, -sixth),
            (4 * sixth, 0.0, -1.0, 0.5),
            (sixth, 0.5, 0.5, -0.5),
            (0.0, 0.0, 0.0, sixth),
        )
        return LocalPolynomials(self.num_basis, self.grid_min - 3 * self.spacing, self.spacing, pieces)

    def write(self, x: Tensor, orders: Sequence[int], outs: Sequence[Tensor], shape: Tensor | None = None) -> None:
        """See :meth:`Basis.write`; the four functions that are not zero at x, scattered into the dense [n, C, in]."""
        check_derivative(max(orders))
        last = self.num_basis + 3  # support of all functions together, in intervals
        t = (x - (self.grid_min - 3 * self.spacing)).div_(self.spacing)
        inside = (t >= 0) & (t < last) if max(orders) == 3 else None
        t.clamp_(0, last)
        left = t.floor().clamp_(max=last - 1)
        t.sub_(left)
        n, columns, width = outs[0].shape
        rows = torch.arange(n, device=x.device).mul_(columns * width).unsqueeze(-1)
        address = rows + torch.arange(width, device=x.device)
        # The integers are clamped once more because a NaN becomes some integer, and must not become an address.
        address.add_(left.long().clamp_(0, last - 1), alpha=width)
        address = address.view(-1)
        for order, out in zip(orders, outs, strict=True):
            values = _local(t, order)
            if order:
                values.mul_(self.spacing**-order)
            if order == 3 and inside is not None:
                values.mul_(inside)
            flat = out.view(-1).zero_()
            for k in range(4):
                flat[k * width :].scatter_(0, address, values[k].view(-1))


def _local(f: Tensor, derivative: int) -> Tensor:
    """The four B-splines of an interval, or their derivatives by f, at its fraction f in [0, 1]: [n, in] → [4, n, in]."""
    values = f.new_empty(4, *f.shape)
    mirror = 1 - f
    if derivative == 0:
        both = torch.stack((mirror, f))
        torch.mul(both, both, out=values[::3]).mul_(both).mul_(1 / 6)
        product = (mirror * f).add_(1).mul_(0.5)
        torch.mul(both, product, out=values[1:3]).add_(1 / 6)
    elif derivative == 1:
        torch.mul(mirror, mirror, out=values[0]).mul_(-0.5)
        torch.mul(f, mirror.mul(-1.5).sub_(0.5), out=values[1])
        torch.mul(mirror, f.mul(1.5).add_(0.5), out=values[2])
        torch.mul(f, f, out=values[3]).mul_(0.5)
    elif derivative == 2:
        values[0] = mirror
        torch.sub(1, mirror, alpha=3, out=values[1])
        torch.sub(1, f, alpha=3, out=values[2])
        values[3] = f
    else:
        for k, jump in enumerate((-1.0, 3.0, -3.0, 1.0)):
            values[k] = jump
    return values
