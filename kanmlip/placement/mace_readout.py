"""KAN readouts for MACE: the authors' KAN(h) + Linear(x), or a KAN alone (Wang et al. 2024, Figure 4)."""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from kanmlip.kan import KAN
from kanmlip.placement.head import Swap


class ReplacedReadout(nn.Module):
    """A KAN of the scalar channels: [N, irreps] → [N, 1]."""

    def __init__(self, kan: KAN) -> None:
        super().__init__()
        self.kan = kan
        self.num_scalars = kan.widths[0]

    def forward(self, x: Tensor, heads: Tensor | None = None) -> Tensor:
        """Site energies [N, 1] of node features [N, irreps], scalars first; ``heads`` is part of MACE's signature only."""
        return cast(Tensor, self.kan(x[:, : self.num_scalars]))

    def calibrate(self, x: Tensor, mean: Tensor, variance: Tensor) -> None:
        """See :class:`kanmlip.placement.head.Head`."""
        self.kan.calibrate(x[:, : self.num_scalars], mean, variance)


class ResidualReadout(nn.Module):
    """The authors' readout, KAN(h) + Linear(x) with h = Linear(x) or, in the last layer, its SiLU: [N, irreps] → [N, 1].

    Args:
        kan: Widths d, d/2, d/4, 1.
        embed: x → h [N, d]; upstream's own first linear map and activation in the last layer, a new linear map earlier.
        linear: x → [N, 1]; upstream's own linear readout in earlier layers, a new one in the last.
    """

    def __init__(self, kan: KAN, embed: nn.Module, linear: nn.Module) -> None:
        super().__init__()
        self.kan = kan
        self.embed = embed
        self.linear = linear

    def forward(self, x: Tensor, heads: Tensor | None = None) -> Tensor:
        """Site energies [N, 1] of node features [N, irreps], scalars first; ``heads`` is part of MACE's signature only."""
        return cast(Tensor, self.kan(self.embed(x)) + self.linear(x))

    def calibrate(self, x: Tensor, mean: Tensor, variance: Tensor) -> None:
        """See :class:`kanmlip.placement.head.Head`: the linear map and the KAN start with half of the variance each.

        They are correlated, so the KAN's half is found from the quadratic for the variance of the sum.
        """
        with torch.no_grad():
            linear = self.linear(x)
            factor = (0.5 * variance / linear.var(0).clamp_min(torch.finfo(x.dtype).tiny)).sqrt()
            for weight in self.linear.parameters():
                weight.mul_(factor.mean())
            linear = self.linear(x)
            h = self.embed(x)
            half = 0.5 * variance
            self.kan.calibrate(h, mean - linear.mean(0), half)
            kan = self.kan(h)
            covariance = ((kan - kan.mean(0)) * (linear - linear.mean(0))).mean(0)
            share = -covariance + (covariance.square() + kan.var(0) * (variance - linear.var(0)).clamp_min(0)).sqrt()
            share = share / kan.var(0).clamp_min(torch.finfo(x.dtype).tiny)
            self.kan.calibrate(h, mean - linear.mean(0), half * share.square())


class ScalarLinear(nn.Module):
    """A bias-free linear map of the scalar channels with e3nn's normalisation: [N, irreps] → [N, out]."""

    def __init__(self, num_scalars: int, out_features: int) -> None:
        super().__init__()
        self.num_scalars = num_scalars
        self.weight = nn.Parameter(torch.randn(out_features, num_scalars))

    def forward(self, x: Tensor) -> Tensor:
        """Map node features [N, irreps], scalars first."""
        return torch.nn.functional.linear(x[:, : self.num_scalars], self.weight) / self.num_scalars**0.5


def swap_readout(module: nn.Module, width: int, style: Literal["residual", "replace"]) -> Swap:
    """How a MACE readout block takes a KAN.

    Args:
        module: ``LinearReadoutBlock`` (earlier layers) or ``NonLinearReadoutBlock`` (last layer).
        width: d of the authors' widths d, d/2, d/4, 1.
        style: See :class:`kanmlip.placement.config.PlacementConfig`.
    """
    block = cast(Any, module)
    is_last = hasattr(block, "linear_1")
    num_scalars = int(block.linear_1.irreps_in.count("0e") if is_last else block.linear.irreps_in.count("0e"))
    if style == "replace":
        hidden = [int(block.hidden_irreps.dim)] if is_last else []
        return Swap((num_scalars, *hidden, 1), ReplacedReadout)

    def wrap(kan: KAN) -> nn.Module:
        if is_last:
            return ResidualReadout(kan, nn.Sequential(block.linear_1, block.non_linearity), ScalarLinear(num_scalars, 1))
        return ResidualReadout(kan, ScalarLinear(num_scalars, width), block.linear)

    return Swap((width, width // 2, width // 4, 1), wrap)
