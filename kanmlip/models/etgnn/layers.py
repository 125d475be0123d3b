"""Layers that every block of the network is made of: linear maps, residual layers, and the MLPs that placements replace."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

# Of the last layer of an MLP that ends in scalars: hundreds of them add up to one tensor, which then starts at tenths at most.
# Without it the first updates repair the output: after 375 of them on SiO2 the error is half as large again.
OUTPUT_SCALE = 0.01


def elu(x: Tensor) -> Tensor:
    """σ = ELU, written over its argument: of two tensors of the size of all triplets one is saved."""
    return nn.functional.elu(x, inplace=True)


def linear(in_features: int, out_features: int, bias: bool = True) -> nn.Linear:
    """A linear map [..., in] → [..., out] whose rows start orthogonal and of length one, and whose bias starts at zero."""
    layer = nn.Linear(in_features, out_features, bias=bias)
    nn.init.orthogonal_(layer.weight)
    with torch.no_grad():
        layer.weight /= layer.weight.norm(dim=1, keepdim=True)
        if bias:
            layer.bias.zero_()
    return layer


class Residual(nn.Module):
    """Res(y) = y + σ(W2 σ(W1 y)): [..., width] → [..., width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = linear(width, width)
        self.second = linear(width, width)

    def forward(self, y: Tensor) -> Tensor:
        """Apply to y [..., width]."""
        return y + elu(self.second(elu(self.first(y))))


def residuals(width: int, count: int) -> nn.Sequential:
    """Residual layers one after another."""
    return nn.Sequential(*(Residual(width) for _ in range(count)))


class LowRank(nn.Module):
    """W2 W1 of basis functions, without biases: [..., functions] → [..., rank] → [..., out]."""

    def __init__(self, functions: int, rank: int, out_features: int) -> None:
        super().__init__()
        self.reduce = linear(functions, rank, bias=False)
        self.expand = linear(rank, out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to basis functions [..., functions]."""
        out: Tensor = self.expand(self.reduce(x))
        return out


class MLP(nn.Module):
    """Linear maps with σ between them and biases: [..., widths[0]] → [..., widths[-1]]; outputs start small (``OUTPUT_SCALE``)."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.layers = nn.ModuleList(linear(before, after) for before, after in pairwise(self.widths))
        with torch.no_grad():
            cast("nn.Linear", self.layers[-1]).weight.mul_(OUTPUT_SCALE)

    def forward(self, x: Tensor) -> Tensor:
        """Map features [..., widths[0]]."""
        *hidden, last = self.layers
        for layer in hidden:
            x = elu(layer(x))
        out: Tensor = last(x)
        return out
