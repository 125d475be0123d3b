"""Chebyshev polynomials of a squashed input (ChebyKAN, arXiv 2405.07200), without arccos and bounded on the whole line."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kanmlip.kan.basis import Basis, check_count, check_derivative
from kanmlip.kan.family import Chebyshev as ChebyshevFamily


class Chebyshev(Basis):
    """T_k(tanh(x/width)) for k = 1 … degree.

    With y = x/width and the angle θ of tan(θ/2) = e^(−y), tanh y = cos θ and sech y = sin θ, so that T_k = cos kθ, and sin kθ comes
    with it by the addition theorem. Both have rounding errors that grow with k, where the three-term recurrence's grow with k²,
    and as dθ/dy = −sin θ every derivative is a short sum of the two.

    Args:
        degree: Number of polynomials; T_0 is constant and left out.
        width: Scale of the squash. In its middle T_k oscillates like a wave of frequency k/width.

    Raises:
        ValueError: If there is no polynomial or the width is not positive.
    """

    degrees: Tensor
    one_formula = False

    def __init__(self, degree: int = 8, width: float = 2.0) -> None:
        check_count("degree", degree, 1)
        if not width > 0:
            raise ValueError(f"width={width} must be positive; inputs are normalised, 2 suits most")
        super().__init__(degree)
        self.degree = degree
        self.width = width
        self.register_constants()

    def constants(self) -> dict[str, Tensor]:
        """Degrees k [K]."""
        return {"degrees": torch.arange(1, self.degree + 1, dtype=torch.float64)}

    def evaluate(self, x: Tensor, derivative: int = 0) -> Tensor:
        """See :meth:`Basis.evaluate`."""
        check_derivative(derivative)
        cos, sin = _angle(x, self.width)
        waves = [(cos, sin)]
        for _ in range(1, self.degree):
            c, s = waves[-1]
            waves.append((c * cos - s * sin, s * cos + c * sin))
        parts = [_combine(k, c, s, cos, sin, derivative) for k, (c, s) in enumerate(waves, start=1)]
        return torch.stack(parts, dim=-1) / self.width**derivative

    def family(self) -> ChebyshevFamily:
        """See :meth:`Basis.family`."""
        return ChebyshevFamily(self.degree, self.width)

    def write(self, x: Tensor, orders: Sequence[int], outs: Sequence[Tensor], shape: Tensor | None = None) -> None:
        """See :meth:`Basis.write`; ``evaluate`` with all degrees of an order at once and few temporaries."""
        check_derivative(max(orders))
        cos, sin = _angle(x, self.width)
        waves = x.new_empty(2, x.shape[0], self.degree, x.shape[1])
        c, s = waves[0], waves[1]
        c[:, 0], s[:, 0] = cos, sin
        scratch = torch.empty_like(x)
        for k in range(1, self.degree):
            # Products and sums are rounded one by one: fused ones would differ between the vectors of a row and its end.
            torch.mul(c[:, k - 1], cos, out=c[:, k]).sub_(torch.mul(s[:, k - 1], sin, out=scratch))
            torch.mul(s[:, k - 1], cos, out=s[:, k]).add_(torch.mul(c[:, k - 1], sin, out=scratch))
        degrees = self.degrees.to(x).unsqueeze(-1)
        cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
        for order, out in zip(orders, outs, strict=True):
            target = out[:, : self.degree]
            target.copy_(_combine(degrees, c, s, cos, sin, order))
            if order:
                target.mul_(self.width**-order)

    def initial_profile(self) -> Tensor:
        """1/k²: equal weights would give the highest degrees, and so the forces, most of the size."""
        return torch.arange(1, self.degree + 1, dtype=torch.float64).pow(-2)


def _angle(x: Tensor, width: float) -> tuple[Tensor, Tensor]:
    """cos θ = tanh(x/width) and sin θ = sech(x/width)."""
    y = x / width
    # Not abs() nor 1/cosh(): the one has no derivative at zero, the other's overflows into NaN far outside.
    decay = torch.exp(torch.where(y < 0, y, -y))
    return torch.tanh(y), 2 * decay / (1 + decay.square())


def _combine(k: int | Tensor, c: Tensor, s: Tensor, cos: Tensor, sin: Tensor, derivative: int) -> Tensor:
    """(d/dy)^d cos kθ, from θ' = −sin θ, (cos θ)' = sin²θ and (sin θ)' = −sin θ cos θ; c = cos kθ, s = sin kθ."""
    if derivative == 0:
        return c
    if derivative == 1:
        return k * (sin * s)
    if derivative == 2:
        return -k * (sin * (cos * s + k * (sin * c)))
    square = sin * sin
    return k * (sin * ((cos * cos - (1 + k * k) * square) * s + 3 * k * (sin * cos * c)))
