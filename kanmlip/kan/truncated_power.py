"""Cubic truncated powers (TruKAN) as fixed sums of B-splines, which do not cancel and stay bounded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from kanmlip.kan.basis import Basis
from kanmlip.kan.bspline import BSpline


class TruncatedPower(Basis):
    """1, x, x², x³ and (x − t_i)₊³ for the grid − 1 inner knots t_i, each times a constant with which it nowhere exceeds 1.

    These span what the cubic B-splines on the grid span. As powers, functions of order one are differences of terms a million
    times their size when knots are dense; here each is the sum of B-splines that equals it on the grid and falls to zero
    within three intervals outside, twice continuously differentiable. Kernels evaluate the B-splines (``kernel``) with the
    weights ``mixing`` @ W, which has to be formed in float64.

    Args:
        grid: Intervals between ``grid_min`` and ``grid_max``.
        grid_min: Left end of the grid.
        grid_max: Right end of the grid.

    Raises:
        ValueError: If there is no interval or the grid is empty.
    """

    matrix: Tensor

    def __init__(self, grid: int = 5, grid_min: float = -3.0, grid_max: float = 3.0) -> None:
        spline = BSpline(grid, 3, grid_min, grid_max)
        super().__init__(spline.num_basis)
        self.spline = spline
        self.smoothness = spline.smoothness
        self.grid = grid
        self.grid_min = grid_min
        self.grid_max = grid_max
        self.spacing = spline.spacing
        self.register_constants()
        self._keep_precision()

    def constants(self) -> dict[str, Tensor]:
        """B-spline coefficients of the functions [K, K]: blossoms at the three knots inside each B-spline's support."""
        steps = torch.arange(-2, self.grid + 3, dtype=torch.float64)
        knots = (self.grid_min + self.spacing * steps).unfold(0, 3, 1)
        columns = []
        for power in range(4):
            products = torch.stack([knots[:, list(chosen)].prod(1) for chosen in combinations(range(3), power)])
            columns.append(products.mean(0))
        # In units of an interval, so that a factor at the knot itself is exactly zero.
        columns += [(steps - i).clamp_min(0).unfold(0, 3, 1).prod(1) for i in range(1, self.grid)]
        matrix = torch.stack(columns, dim=1)
        return {"matrix": matrix / matrix.abs().amax(0)}

    def evaluate(self, x: Tensor, derivative: int = 0) -> Tensor:
        """See :meth:`Basis.evaluate`."""
        return self.spline.evaluate(x, derivative) @ self.matrix.to(x.dtype)

    def kernel(self) -> BSpline:
        """See :meth:`Basis.kernel`."""
        return self.spline

    def mixing(self) -> Tensor:
        """See :meth:`Basis.mixing`."""
        return self.matrix

    def write(self, x: Tensor, orders: Sequence[int], outs: Sequence[Tensor], shape: Tensor | None = None) -> None:
        """See :meth:`Basis.write`; sums over the B-splines, for callers that do not mix the weights instead."""
        pad, count = self.spline.padding(orders), self.num_basis
        splines = [x.new_empty(x.shape[0], count + 2 * pad, x.shape[1]) for _ in orders]
        self.spline.write(x, orders, splines)
        scratch = x.new_empty(x.shape[0], count, x.shape[1])
        matrix = self.matrix.to(x.dtype).unsqueeze(-1)
        for spline, out in zip(splines, outs, strict=True):
            target = out[:, :count].zero_()
            for m in range(count):
                # Not a matrix product: the last bit of that depends on the number of rows, and f(0) = 0 has to be exact.
                torch.mul(spline[:, pad + m].unsqueeze(1), matrix[m], out=scratch)
                target.add_(scratch)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Basis:
        super()._apply(fn, recurse)
        self._keep_precision()
        return self

    def _keep_precision(self) -> None:
        """The matrix in float64 whatever the module's dtype; still a buffer, so that it follows the device and can be traced."""
        self.register_buffer("matrix", self.constants()["matrix"].to(self.matrix.device), persistent=False)
