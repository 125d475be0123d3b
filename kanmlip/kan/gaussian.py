"""Gaussian basis functions exp(−((x − c_k)/h)²) on equally spaced centres (FastKAN, arXiv 2405.06721)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from kanmlip.kan.basis import TOGETHER, Basis, both_ways, check_count, check_derivative, check_grid
from kanmlip.kan.family import Gaussians
from kanmlip.kan.memory import scratch

# Functions that share one anchor in the recurrence. With 8 the anchor's own value underflows in float32 only where all
# eight are below 1e-14.
_GROUP = 8
# Distance from a group's middle, in spacings, from which its recurrence goes no farther: all eight functions are below 1e-24 there, and the
# product of the factors, which the gradient of the anchor has, below 1e29.
_FARTHEST = 11.0


def bell(u: Tensor) -> Tensor:
    """exp(−u²), as a power of two: PyTorch's compiler stores every exponential that is used twice, for all functions at once."""
    return torch.exp2(-math.log2(math.e) * u.square())


class Gaussian(Basis):
    """φ_k(x) = exp(−u²), u = (x − c_k)/h, with h the distance of the centres, as in FastKAN.

    Args:
        num_basis: Number of centres; the paper uses 8.
        grid_min: First centre.
        grid_max: Last centre.

    Raises:
        ValueError: If there are fewer than two centres or the grid is empty.
    """

    centres: Tensor
    centre_column: Tensor

    def __init__(self, num_basis: int = 8, grid_min: float = -3.0, grid_max: float = 3.0) -> None:
        check_count("num_basis", num_basis, 2)
        check_grid(grid_min, grid_max)
        super().__init__(num_basis)
        self.grid_min = grid_min
        self.grid_max = grid_max
        self.spacing = (grid_max - grid_min) / (num_basis - 1)
        self.register_constants()

    def constants(self) -> dict[str, Tensor]:
        """Centres c_k, [K] and [K, 1]."""
        return both_ways(torch.linspace(self.grid_min, self.grid_max, self.num_basis, dtype=torch.float64))

    def evaluate(self, x: Tensor, derivative: int = 0) -> Tensor:
        """See :meth:`Basis.evaluate`; derivatives by the Hermite polynomials of u."""
        check_derivative(derivative)
        u = (x.unsqueeze(-1) - self.centres) / self.spacing
        value = bell(u)
        if derivative == 0:
            return value
        if derivative == 1:
            polynomial = -2 * u
        elif derivative == 2:
            polynomial = 4 * u.square() - 2
        else:
            polynomial = (12 - 8 * u.square()) * u
        return polynomial * value / self.spacing**derivative

    def rows(self, x: Tensor) -> Tensor:
        """See :meth:`Basis.rows`."""
        return bell((x.unsqueeze(-2) - self.centre_column) * (1 / self.spacing))

    def each(self, x: Tensor) -> list[Tensor]:
        """See :meth:`Basis.each`; by the recurrence of ``_group``."""
        functions: list[Tensor] = []
        for first in range(0, self.num_basis, _GROUP):
            count = min(_GROUP, self.num_basis - first)
            below = count // 2
            s = x * (1 / self.spacing) - (self.grid_min / self.spacing + first + below - 0.5)
            anchor, r = bell(s), torch.exp2(math.log2(math.e) * s.clamp(-_FARTHEST, _FARTHEST))
            functions += [*reversed(_outwards(anchor, r.reciprocal(), below)), *_outwards(anchor, r, count - below)]
        return functions

    def family(self) -> Gaussians:
        """See :meth:`Basis.family`."""
        return Gaussians(self.num_basis, tuple(self.constants()["centres"].tolist()), (1 / self.spacing,) * self.num_basis)

    def write(self, x: Tensor, orders: Sequence[int], outs: Sequence[Tensor], shape: Tensor | None = None) -> None:
        """See :meth:`Basis.write`; φ⁽ⁿ⁺¹⁾ = w φ⁽ⁿ⁾ − (2n/h²) φ⁽ⁿ⁻¹⁾ with w = −2u/h."""
        targets = {order: out[:, : self.num_basis] for order, out in zip(orders, outs, strict=True)}
        top = max(orders)
        check_derivative(top)
        value = targets[0] if 0 in targets else x.new_empty(x.shape[0], self.num_basis, x.shape[1])
        few = tuple(orders) == TOGETHER
        self._values(x, value, few)
        if top == 0:
            return
        slope = -2 / self.spacing**2
        work = scratch(value, value.numel()).view(value.shape) if few else None  # else the outs may lie there
        w = torch.sub((slope * x).unsqueeze(1), (slope * self.centres).unsqueeze(-1), out=work)
        before, current = value, torch.mul(w, value, out=targets.get(1))
        for n in range(1, top):
            step = torch.mul(w, current, out=targets.get(n + 1))
            before, current = current, step.add_(before, alpha=n * slope)

    def _values(self, x: Tensor, out: Tensor, few: bool) -> None:
        if x.is_cuda or few:  # an exponential is cheaper than calling more operators
            u = torch.sub((x / self.spacing).unsqueeze(1), (self.centres / self.spacing).unsqueeze(-1), out=out)
            u.square_().neg_().exp_()
            return
        for first in range(0, self.num_basis, _GROUP):
            self._group(x, first, out[:, first : first + _GROUP])

    def _group(self, x: Tensor, first: int, out: Tensor) -> None:
        """Up to eight neighbours from two exponentials: φ_j = e^(−s²) r^(2j) e^(−j²), j = ±1/2, ±3/2 …, r = e^s, s from the group's middle.

        Going outwards from the middle no factor overflows and nothing that matters underflows; beyond the clamp e^(−s²) is zero.
        """
        count = out.shape[1]
        below = count // 2
        middle = self.grid_min + self.spacing * (first + below - 0.5)
        s = (x - middle).div_(self.spacing)
        anchor = s.square().neg_().exp_()
        limit = 16.0 if x.dtype == torch.float32 else 40.0
        r = s.clamp_(-limit, limit).exp_()
        zero = x.new_zeros(())
        for start, step, number in ((below, 1, count - below), (below - 1, -1, below)):
            if number == 0:
                continue
            # Powers of r alone would overflow: multiply the anchor out step by step.
            factor = r if step == 1 else r.reciprocal()
            torch.addcmul(zero, anchor, factor, value=math.exp(-0.25), out=out[:, start])
            ratio = factor.square()
            for j in range(1, number):
                torch.addcmul(zero, out[:, start + step * (j - 1)], ratio, value=math.exp(-2 * j), out=out[:, start + step * j])


def _outwards(anchor: Tensor, factor: Tensor, count: int) -> list[Tensor]:
    """e^(−s²) f^(2j) e^(−j²) for j = 1/2, 3/2 … and f = e^s or e^(−s); see ``Gaussian._group``."""
    functions, ratio = [anchor * (math.exp(-0.25) * factor)], factor.square()
    for j in range(1, count):
        functions.append(functions[-1] * (math.exp(-2 * j) * ratio))
    return functions[:count]
