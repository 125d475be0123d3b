"""Own references of two published KAN layers that store the expanded basis [N, in, K]; for comparison, not for use.

Neither package can be installed under its name. What is timed here is the same algorithm, written anew: the operations, in their
order, that efficient-kan (Cox–de Boor recursion) and fast-kan (Gaussians) do. Unlike there, the grids are buffers made in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional


class RecursiveSplineLayer(nn.Module):
    """Linear(SiLU(x)) + B-splines by recursion times scaled coefficients, as in efficient-kan: [N, in] → [N, out].

    Args:
        in_features: Input channels.
        out_features: Output channels.
        grid: Intervals on [grid_min, grid_max].
        order: Degree of the splines; grid + order functions for each channel.
        grid_min: Lower end.
        grid_max: Upper end.
    """

    knots: Tensor

    def __init__(
        self, in_features: int, out_features: int, *, grid: int = 5, order: int = 3, grid_min: float = -3.0, grid_max: float = 3.0
    ) -> None:
        super().__init__()
        self.order = order
        spacing = (grid_max - grid_min) / grid
        knots = grid_min + spacing * torch.arange(-order, grid + order + 1, dtype=torch.float64)
        self.register_buffer("knots", knots.to(torch.get_default_dtype()).repeat(in_features, 1))
        self.base_weight = nn.Parameter(torch.randn(out_features, in_features) / in_features**0.5)
        self.spline_weight = nn.Parameter(0.1 * torch.randn(out_features, in_features, grid + order) / in_features**0.5)
        self.spline_scaler = nn.Parameter(torch.randn(out_features, in_features))

    def expand(self, x: Tensor) -> Tensor:
        """Values of all B-splines [N, in, grid + order] at x [N, in]."""
        x = x.unsqueeze(-1)
        t = self.knots
        values = ((x >= t[:, :-1]) & (x < t[:, 1:])).to(x.dtype)
        for k in range(1, self.order + 1):
            rising = (x - t[:, : -(k + 1)]) / (t[:, k:-1] - t[:, : -(k + 1)])
            falling = (t[:, k + 1 :] - x) / (t[:, k + 1 :] - t[:, 1:-k])
            values = rising * values[..., :-1] + falling * values[..., 1:]
        return values

    def forward(self, x: Tensor) -> Tensor:
        """[N, in] → [N, out]."""
        base = functional.linear(functional.silu(x), self.base_weight)
        scaled = self.spline_weight * self.spline_scaler.unsqueeze(-1)
        return base + functional.linear(self.expand(x).flatten(1), scaled.flatten(1))


class StoredGaussianLayer(nn.Module):
    """Gaussians of the LayerNorm of x times coefficients, plus Linear(SiLU(x)) with bias, as in fast-kan: [N, in] → [N, out].

    Args:
        in_features: Input channels.
        out_features: Output channels.
        num_basis: Gaussians exp(−((x − c)/h)²), h apart.
        grid_min: First centre.
        grid_max: Last centre.
    """

    centres: Tensor

    def __init__(self, in_features: int, out_features: int, *, num_basis: int = 8, grid_min: float = -3.0, grid_max: float = 3.0) -> None:
        super().__init__()
        self.width = (grid_max - grid_min) / (num_basis - 1)
        centres = torch.linspace(grid_min, grid_max, num_basis, dtype=torch.float64)
        self.register_buffer("centres", centres.to(torch.get_default_dtype()))
        self.norm = nn.LayerNorm(in_features)
        self.spline = nn.Linear(in_features * num_basis, out_features, bias=False)
        self.base = nn.Linear(in_features, out_features)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in] → [N, out]."""
        bells = torch.exp(-(((self.norm(x).unsqueeze(-1) - self.centres) / self.width) ** 2))
        return cast("Tensor", self.spline(bells.flatten(1)) + self.base(functional.silu(x)))


class NormalisedMLP(nn.Module):
    """Bias-free linear maps with SiLU between, each weight times a fixed number in every call, as nequip's ``ScalarMLPFunction``.

    Args:
        widths: Widths, input first.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(torch.randn(before, after) for before, after in pairwise(widths))
        for layer, width in enumerate(widths[:-1]):
            gain = 1.0 if layer == 0 else 2.0**0.5
            self.register_buffer(f"gain_{layer}", torch.tensor(gain / width**0.5))

    def forward(self, x: Tensor) -> Tensor:
        """[N, widths[0]] → [N, widths[-1]]."""
        for layer, weight in enumerate(self.weights):
            x = functional.silu(x) if layer else x
            x = x @ (weight * self.get_buffer(f"gain_{layer}"))
        return x
