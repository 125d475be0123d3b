"""Weights that make a KAN layer start as the function it replaces."""

from __future__ import annotations

import torch
from torch import Tensor

from kanmlip.kan.calibration import match_moments
from kanmlip.kan.layer import KANLayer, initial_deviation

# Relative to the mean square of a feature. Smaller values fit the samples closer and the space between them worse.
RIDGE = 1e-3


@torch.no_grad()
def imitate(layer: KANLayer, x: Tensor, y: Tensor) -> None:
    """Fit a layer's weights to samples of a function by ridge regression, then give its outputs exactly their mean and variance.

    Weights are penalised in units of their random initial size, so the base branch carries what it can and the basis
    functions the rest. Directions that the samples do not show stay at zero and are left to training.

    Args:
        layer: The layer; its ``weight`` [out, columns, in] is overwritten.
        x: Normalised inputs [M, in].
        y: Outputs of the replaced function at those inputs [M, out].
    """
    expansion = layer.expansion.kernel_expansion()
    deviation = initial_deviation(expansion).to(x.device).repeat_interleave(layer.in_features)
    gram = torch.zeros(len(deviation), len(deviation), dtype=torch.float64, device=x.device)
    moment = torch.zeros(len(deviation), y.shape[1], dtype=torch.float64, device=x.device)
    # By blocks of rows: the expanded features of a whole batch would not fit next to a large model.
    for rows, targets in zip(torch.split(x, 2048), torch.split(y, 2048), strict=True):
        features = expansion.evaluate(rows).transpose(-1, -2).flatten(1).double() * deviation
        gram += features.T @ features
        moment += features.T @ targets.double()
    gram.diagonal().add_(RIDGE * gram.diagonal().mean().clamp_min(torch.finfo(torch.float64).tiny))
    solution = torch.linalg.solve(gram, moment) * deviation.unsqueeze(1)
    weight = solution.T.reshape(layer.out_features, expansion.columns, layer.in_features)
    layer.set_effective_weight(layer.expansion.basis_weight(weight.to(layer.weight)))
    if y.shape[0] > 1:
        match_moments(layer, x, y.mean(0), y.var(0, correction=0))
