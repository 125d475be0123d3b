"""The control heads: an MLP or a linear map that shares everything with a KAN head but its functions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from kanmlip.kan.layer import SCALE_FLOOR

# Var[SiLU(z)] for z ~ N(0, 1); what a SiLU layer is divided by so that outputs start with variance one.
_SILU_SQUARE = 0.3558
# As in kanmlip.kan.imitation: relative to the mean square of a feature.
_RIDGE = 1e-3

Norm = Literal["scale", "layer", "none"]


class DenseLayer(nn.Module):
    """y = W σ(x / s): one layer of :class:`DenseHead`, without bias, so that f(0) = 0.

    The parameters are of order one and W is they times a fixed gain, as in nequip's MLPs and in our KAN layers: under Adam a learning
    rate then means the same to all of them.

    Args:
        in_features: Input channels.
        out_features: Output channels.
        norm: As of :class:`kanmlip.kan.KANLayer`.
        activate: Whether σ is SiLU; the identity otherwise.
    """

    input_scale: Tensor

    def __init__(self, in_features: int, out_features: int, norm: Norm, activate: bool) -> None:
        super().__init__()
        self.norm = norm
        self.activate = activate
        self.gain = (in_features * (_SILU_SQUARE if activate else 1.0)) ** -0.5
        self.weight = nn.Parameter(torch.randn(out_features, in_features))
        if norm == "scale":
            self.register_buffer("input_scale", torch.ones(in_features))

    def features(self, x: Tensor) -> Tensor:
        """What the matrix is applied to: [..., in] from x [..., in]."""
        if self.norm == "scale":
            x = x / self.input_scale
        elif self.norm == "layer":
            x = functional.layer_norm(x, (x.shape[-1],))
        return functional.silu(x) if self.activate else x

    def forward(self, x: Tensor) -> Tensor:
        """Map x [..., in] to [..., out]."""
        return functional.linear(self.features(x), self.weight * self.gain)

    @torch.no_grad()
    def calibrate_scale(self, x: Tensor) -> None:
        """Set the input scale as :meth:`kanmlip.kan.KANLayer.calibrate_scale` does."""
        if self.norm != "scale":
            return
        square = x.square().mean(0)
        scale = square.sqrt().clamp_min(SCALE_FLOOR * square.mean().sqrt())
        self.input_scale.copy_(torch.where(scale > 0, scale, torch.ones_like(scale)))


class DenseHead(nn.Module):
    """An MLP with SiLU and no biases, or with two widths a linear map: [..., widths[0]] → [..., widths[-1]].

    It stands where a KAN of ``widths[0]`` inputs and ``widths[-1]`` outputs would, and starts by the same rule (``imitate``).

    Args:
        widths: Widths, input first.
        norm: How each layer normalises its input.
    """

    def __init__(self, widths: Sequence[int], norm: Norm = "scale") -> None:
        super().__init__()
        self.widths = tuple(int(width) for width in widths)
        self.layers = nn.ModuleList(
            DenseLayer(before, after, norm, activate=index > 0) for index, (before, after) in enumerate(pairwise(self.widths))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map x [..., widths[0]]."""
        for layer in self.layers:
            x = layer(x)
        return x

    @torch.no_grad()
    def imitate(self, x: Tensor, y: Tensor) -> None:
        """Freeze the input scales and fit the last layer such that the head is nearly the function x → y.

        Hidden layers keep their random weights. On x the outputs then have the mean and, where a bias-free layer can, the variance
        of y: the start of :meth:`kanmlip.kan.KAN.imitate`.

        Args:
            x: Inputs [M, widths[0]].
            y: Outputs of the replaced module at those inputs [M, widths[-1]].
        """
        x, y = x.detach().reshape(-1, x.shape[-1]), y.detach().reshape(-1, y.shape[-1])
        *hidden, last = (cast("DenseLayer", layer) for layer in self.layers)
        for layer in hidden:
            layer.calibrate_scale(x)
            x = layer(x)
        last.calibrate_scale(x)
        last.weight.copy_(fit_rows(last.features(x).double(), y.double()) / last.gain)


def fit_rows(features: Tensor, y: Tensor) -> Tensor:
    """Rows W [out, in], float64, of y ≈ features Wᵀ by ridge regression, changed such that variance and mean of y are kept.

    As in :func:`kanmlip.kan.calibration.match_moments`: a row less its part along the mean μ of the features is scaled, and m d is
    added, where d·μ = 1 and d is the direction that costs the least variance. Where even that costs more than y varies, the variance
    is kept and m is as near to the mean of y as that allows.

    Args:
        features: [M, in], float64.
        y: [M, out], float64.
    """
    gram = features.T @ features
    unit = gram.diagonal().mean().clamp_min(torch.finfo(gram.dtype).tiny)
    eye = torch.eye(len(gram)).to(gram)
    rows = cast("Tensor", torch.linalg.solve(gram + _RIDGE * unit * eye, features.T @ y)).T
    mu = features.mean(0)
    length = mu.square().sum()
    if not bool(length > 0):
        return rows
    covariance = gram / len(features) - torch.outer(mu, mu)
    direction = torch.linalg.solve(covariance + _RIDGE * unit / len(features) * eye, mu)
    direction = direction / (direction @ mu)
    across = rows - torch.outer(rows @ mu, direction)
    spread, line = features @ across.T, features @ direction
    spread, line = spread - spread.mean(0), (line - line.mean()).unsqueeze(1)
    tiny = torch.finfo(gram.dtype).tiny
    own, mixed, along = spread.square().mean(0), (spread * line).mean(0), line.square().mean()
    variance = y.var(0, correction=0)
    limit = (variance / (along - mixed.square() / own.clamp_min(tiny)).clamp_min(tiny)).sqrt()
    m = y.mean(0).clamp(-limit, limit)
    root = ((m * mixed).square() - own * (m.square() * along - variance)).clamp_min(0).sqrt()
    factor = torch.where(own > 0, (root - m * mixed) / own.clamp_min(tiny), torch.ones_like(own))
    fitted: Tensor = factor.unsqueeze(1) * across + torch.outer(m, direction)
    return fitted
