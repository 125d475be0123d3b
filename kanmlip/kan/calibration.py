"""Weights of a linear map of random features that give its outputs a wanted mean and variance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor

from kanmlip.kan.contraction import Form, Wanted, partials
from kanmlip.kan.layer import KANLayer

# Rows that the covariance of the features is estimated from when it is needed at all.
_COVARIANCE_ROWS = 4096
_NOISE = 1e-10
_RIDGES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)


@torch.no_grad()
def match_moments(layer: KANLayer, x: Tensor, mean: Tensor, variance: Tensor) -> None:
    """Change a layer's weights such that its outputs on x have a given mean and variance.

    With features F of mean μ, row o of the weights becomes α W⊥ + m d, where W⊥ is the old row less its part along μ, d·μ = 1,
    and α ≥ 0 solves α² Var[W⊥F] + 2 α m Cov[W⊥F, dF] + m² Var[dF] = variance. d = μ/|μ|² where that equation has a root.
    Otherwise d is turned step by step towards the direction in which the mean costs the least variance; if even that
    has none, the variance is kept and m is as near to the wanted mean as that allows.

    Args:
        layer: The layer; its ``weight`` is overwritten.
        x: Normalised inputs [M, in].
        mean: Wanted means [out].
        variance: Wanted variances [out].
    """
    weight = layer.effective_weight
    flat = weight.reshape(weight.shape[0], -1).double()
    mean, variance = mean.to(flat), variance.to(flat)
    mu = _mean_features(layer, x)
    length = mu.square().sum()
    if not bool(length > 0):
        # Inputs that are all zero, say. Nothing can be measured: keep the weights.
        return
    across = flat - torch.outer(flat @ mu / length, mu)
    y = _outputs(layer, x, across)
    y = y - y.mean(0)
    own = y.square().mean(0)
    # Inputs that do not vary leave rounding errors, which must not be scaled up.
    own = torch.where(own > _NOISE * across.square().sum(1) * length / len(mu), own, torch.zeros_like(own))
    solved = torch.zeros_like(mean, dtype=torch.bool)
    result = flat.clone()
    for direction in _directions(layer, x, mu):
        line = _outputs(layer, x, direction.unsqueeze(0))[:, 0]
        line = line - line.mean()
        mixed, along = (y * line.unsqueeze(1)).mean(0), line.square().mean()
        alpha, m, exact = _solve(own, mixed, along, mean, variance)
        candidate = alpha.unsqueeze(1) * across + torch.outer(m, direction)
        result = torch.where(solved.unsqueeze(1), result, candidate)
        solved = solved | exact
        if bool(solved.all()):
            break
    layer.set_effective_weight(result.view_as(weight))


def _solve(own: Tensor, mixed: Tensor, along: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """α and m for each channel of α² own + 2 α m mixed + m² along = variance, and whether m is the wanted mean."""
    tiny = torch.finfo(own.dtype).tiny
    # The least variance of α W⊥ + m d over α is m² rest: beyond it there is no root.
    rest = (along - mixed.square() / own.clamp_min(tiny)).clamp_min(0)
    limit = (variance / rest.clamp_min(tiny)).sqrt()
    exact = mean.abs() <= limit
    m = torch.where(exact, mean, mean.sign() * limit)
    discriminant = (m * mixed).square() - own * (m.square() * along - variance)
    alpha = (discriminant.clamp_min(0).sqrt() - m * mixed) / own.clamp_min(tiny)
    # One row, or inputs that do not vary, have no variance to scale: give them the mean at least.
    varies = own > 0
    return torch.where(varies, alpha, torch.ones_like(alpha)), torch.where(varies, m, mean), exact | ~varies


def _directions(layer: KANLayer, x: Tensor, mu: Tensor) -> Iterator[Tensor]:
    """Rows d with d·μ = 1, float64 [columns · in]: along μ, then (Σ + λ)⁻¹μ with covariance Σ and ever smaller λ."""
    yield mu / mu.square().sum()
    x = x[:: -(-x.shape[0] // _COVARIANCE_ROWS)]
    features = layer.expansion.evaluate(x).transpose(-1, -2).flatten(1).double()
    features = features - features.mean(0)
    covariance = features.t() @ features / features.shape[0]
    unit = covariance.diagonal().mean()
    if not bool(unit > _NOISE * mu.square().mean()):
        return
    for ridge in _RIDGES:
        shifted = covariance + ridge * unit * torch.eye(len(mu), dtype=mu.dtype, device=mu.device)
        direction = torch.linalg.solve(shifted, mu)
        yield direction / (direction @ mu)


def _mean_features(layer: KANLayer, x: Tensor) -> Tensor:
    """Mean of every feature φ_k(x_i), float64 [columns · in]."""
    ones = x.new_full((x.shape[0], 1), 1 / x.shape[0])
    return cast("Tensor", partials(Form(layer.expansion), x, None, ones, None, wanted=Wanted(weight=True)).weight).flatten().double()


def _outputs(layer: KANLayer, x: Tensor, rows: Tensor) -> Tensor:
    """What other weights [out, columns · in] would give on x, float64 [M, out]."""
    weight = rows.to(x).view(-1, *layer.weight.shape[1:])
    return cast("Tensor", partials(Form(layer.expansion), x, None, None, weight, wanted=Wanted(g=True)).g).double()
