"""KAN readouts for MACE: the authors' KAN(h) + Linear(x), or a KAN alone (Wang et al. 2024, Figure 4)."""

from __future__ import annotations

import math
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from kanmlip.placement.head import Network, Swap


class ReplacedReadout(nn.Module):
    """A KAN of the scalar channels: [N, irreps] → [N, 1]."""

    def __init__(self, kan: Network) -> None:
        super().__init__()
        self.kan = kan
        self.num_scalars = kan.widths[0]

    def forward(self, x: Tensor, heads: Tensor | None = None) -> Tensor:
        """Site energies [N, 1] of node features [N, irreps], scalars first; ``heads`` is part of MACE's signature only."""
        return cast("Tensor", self.kan(x[:, : self.num_scalars]))

    def imitate(self, x: Tensor, y: Tensor) -> None:
        """See :class:`kanmlip.placement.head.Head`."""
        self.kan.imitate(x[:, : self.num_scalars], y)


class ResidualReadout(nn.Module):
    """The authors' readout, KAN(h) + Linear(x) with h = Linear(x) or, in the last layer, its SiLU: [N, irreps] → [N, 1].

    Args:
        kan: Widths d, d/2, d/4, 1.
        embed: x → h [N, d]; upstream's own first linear map and activation in the last layer, a new linear map earlier.
        linear: x → [N, 1]; upstream's own linear readout in earlier layers, a new one in the last.
    """

    def __init__(self, kan: Network, embed: nn.Module, linear: nn.Module) -> None:
        super().__init__()
        self.kan = kan
        self.embed = embed
        self.linear = linear

    def forward(self, x: Tensor, heads: Tensor | None = None) -> Tensor:
        """Site energies [N, 1] of node features [N, irreps], scalars first; ``heads`` is part of MACE's signature only."""
        return cast("Tensor", self.kan(self.embed(x)) + self.linear(x))

    def imitate(self, x: Tensor, y: Tensor) -> None:
        """See :class:`kanmlip.placement.head.Head`.

        The linear map carries what it can (in earlier layers it is the whole of the replaced readout, and stays as it was),
        and the KAN imitates the rest.
        """
        with torch.no_grad():
            if isinstance(self.linear, ScalarLinear):
                self.linear.fit(x, y)
            self.kan.imitate(self.embed(x), y - self.linear(x))


class ScalarLinear(nn.Module):
    """A bias-free linear map of the scalar channels with e3nn's normalisation: [N, irreps] → [N, out]."""

    def __init__(self, num_scalars: int, out_features: int) -> None:
        super().__init__()
        self.num_scalars = num_scalars
        self.weight = nn.Parameter(torch.randn(out_features, num_scalars))

    def forward(self, x: Tensor) -> Tensor:
        """Map node features [N, irreps], scalars first."""
        scalars = x[:, : self.num_scalars]
        return scalars @ self.weight.t() / math.sqrt(self.num_scalars)

    @torch.no_grad()
    def fit(self, x: Tensor, y: Tensor) -> None:
        """Set the weights to the ridge regression of ``y`` [N, out] on the scalars of ``x``."""
        scalars = x[:, : self.num_scalars].double() / math.sqrt(self.num_scalars)
        gram = scalars.T @ scalars
        gram.diagonal().add_(1e-3 * gram.diagonal().mean().clamp_min(torch.finfo(gram.dtype).tiny))
        self.weight.copy_(torch.linalg.solve(gram, scalars.T @ y.double()).T)


def swap_readout(module: nn.Module, width: int, style: Literal["residual", "replace"]) -> Swap:
    """How a MACE readout block takes a KAN.

    Args:
        module: ``LinearReadoutBlock`` (earlier layers) or ``NonLinearReadoutBlock`` (last layer).
        width: d of the authors' widths d, d/2, d/4, 1.
        style: See :class:`kanmlip.placement.config.PlacementConfig`.
    """
    block = cast("Any", module)
    is_last = hasattr(block, "linear_1")
    num_scalars = int(block.linear_1.irreps_in.count("0e") if is_last else block.linear.irreps_in.count("0e"))
    if style == "replace":
        hidden = [int(block.hidden_irreps.dim)] if is_last else []
        return Swap((num_scalars, *hidden, 1), ReplacedReadout)

    def wrap(kan: Network) -> nn.Module:
        if is_last:
            return ResidualReadout(kan, nn.Sequential(block.linear_1, block.non_linearity), ScalarLinear(num_scalars, 1))
        return ResidualReadout(kan, ScalarLinear(num_scalars, width), block.linear)

    return Swap((width, width // 2, width // 4, 1), wrap)
