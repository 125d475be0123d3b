"""Fourier basis functions cos(kωx) and sin(kωx) (arXiv 2406.02496 and others)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from kanmlip.kan.basis import Basis, check_count, check_derivative
from kanmlip.kan.family import Waves


class Fourier(Basis):
    """cos(kωx) for k = 1 … n, then sin(kωx), ω = 2π/period.

    Args:
        num_waves: Number of frequencies n; there are 2 n functions.
        period: Period of the slowest wave; the default covers [−π, π], where normalised inputs lie.

    Raises:
        ValueError: If there is no wave or the period is not positive.
    """

    frequencies: Tensor

    def __init__(self, num_waves: int = 4, period: float = 2 * math.pi) -> None:
        check_count("num_waves", num_waves, 1)
        if not period > 0:
            raise ValueError(f"period={period} must be positive; inputs are normalised, {2 * math.pi:.4f} suits most")
        super().__init__(2 * num_waves)
        self.num_waves = num_waves
        self.period = period
        self.register_constants()

    def constants(self) -> dict[str, Tensor]:
        """Frequencies kω [n]."""
        return {"frequencies": torch.arange(1, self.num_waves + 1, dtype=torch.float64) * (2 * math.pi / self.period)}

    def evaluate(self, x: Tensor, derivative: int = 0) -> Tensor:
        """See :meth:`Basis.evaluate`; each derivative is a phase shift by π/2 and a factor kω."""
        check_derivative(derivative)
        angle = x.unsqueeze(-1) * self.frequencies
        cos, sin = torch.cos(angle), torch.sin(angle)
        parts = ((cos, sin), (-sin, cos), (-cos, -sin), (sin, -cos))[derivative]
        return torch.cat([part * self.frequencies**derivative for part in parts], dim=-1)

    def each(self, x: Tensor) -> list[Tensor]:
        """See :meth:`Basis.each`."""
        angles = [x * (2 * math.pi / self.period * k) for k in range(1, self.num_waves + 1)]
        return [*map(torch.cos, angles), *map(torch.sin, angles)]

    def family(self) -> Waves:
        """See :meth:`Basis.family`."""
        return Waves(self.num_basis, 2 * math.pi / self.period)

    def write(self, x: Tensor, orders: Sequence[int], outs: Sequence[Tensor], shape: Tensor | None = None) -> None:
        """See :meth:`Basis.write`; one cosine and one sine a point, the other waves by the addition theorem."""
        check_derivative(max(orders))
        n = self.num_waves
        waves = x.new_empty(2, n, *x.shape)
        cos, sin = waves[0], waves[1]
        angle = x * (2 * math.pi / self.period)
        torch.cos(angle, out=cos[0])
        torch.sin(angle, out=sin[0])
        for k in range(1, n):
            torch.mul(cos[k - 1], cos[0], out=cos[k]).addcmul_(sin[k - 1], sin[0], value=-1)
            torch.mul(sin[k - 1], cos[0], out=sin[k]).addcmul_(cos[k - 1], sin[0])
        waves = waves.permute(2, 0, 1, 3)
        for order, out in zip(orders, outs, strict=True):
            scale = self.frequencies.pow(order).unsqueeze(-1)
            for part in (0, 1):  # cosines, sines
                source, sign = ((part, 1.0), (1 - part, 2.0 * part - 1))[order % 2]
                factor = scale * (sign if order < 2 else -sign)
                torch.mul(waves[:, source], factor, out=out[:, part * n : (part + 1) * n])

    def initial_profile(self) -> Tensor:
        """1/k²: equal weights would give the fastest waves, and so the forces, most of the size."""
        decay = torch.arange(1, self.num_waves + 1, dtype=torch.float64).pow(-2)
        return torch.cat([decay, decay])
