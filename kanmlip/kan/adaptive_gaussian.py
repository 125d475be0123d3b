"""Gaussian basis functions whose centres and widths are learned with the weights (NeuRBF, arXiv 2309.15426)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kanmlip.kan.basis import Basis, check_count, check_derivative, check_grid
from kanmlip.kan.family import Gaussians
from kanmlip.kan.gaussian import bell


class AdaptiveGaussian(Basis):
    """φ_k(x) = exp(−u²), u = (x − c_k) s_k, with parameters c_k and ln s_k; one set for all channels of a layer.

    They start as those of :class:`Gaussian` with the same arguments.

    Args:
        num_basis: Number of centres.
        grid_min: First centre at the start.
        grid_max: Last centre at the start.

    Raises:
        ValueError: If there are fewer than two centres or the grid is empty.
    """

    def __init__(self, num_basis: int = 8, grid_min: float = -3.0, grid_max: float = 3.0) -> None:
        check_count("num_basis", num_basis, 2)
        check_grid(grid_min, grid_max)
        super().__init__(num_basis)
        self.grid_min = grid_min
        self.grid_max = grid_max
        spacing = (grid_max - grid_min) / (num_basis - 1)
        centres = torch.linspace(grid_min, grid_max, num_basis, dtype=torch.float64)
        self.centres = nn.Parameter(centres.to(torch.get_default_dtype()))
        # The logarithm keeps widths positive, and a step of the optimiser means the same to wide and to narrow functions.
        self.log_inverse_widths = nn.Parameter(torch.full((num_basis,), -math.log(spacing)))

    def constants(self) -> dict[str, Tensor]:
        """None: what other bases keep here are parameters."""
        return {}

    def shape(self) -> Tensor:
        """See :meth:`Basis.shape`; differentiable in both parameters."""
        return torch.stack((self.centres, self.log_inverse_widths.exp()))

    def evaluate(self, x: Tensor, derivative: int = 0) -> Tensor:
        """See :meth:`Basis.evaluate`; differentiable in the parameters too."""
        check_derivative(derivative)
        centres, inverse_widths = self.shape().to(x)
        u = (x.unsqueeze(-1) - centres) * inverse_widths
        # From order to order, as powers of u would overflow where the exponential is zero.
        before, current = torch.zeros_like(u), bell(u)
        for n in range(derivative):
            before, current = current, -2 * inverse_widths * (u * current + n * inverse_widths * before)
        return current

    def family(self) -> Gaussians:
        """See :meth:`Basis.family`."""
        return Gaussians(self.num_basis, (), ())

    def write(self, x: Tensor, orders: Sequence[int], outs: Sequence[Tensor], shape: Tensor | None = None) -> None:
        """See :meth:`Basis.write`; φ⁽ⁿ⁺¹⁾ = −2s (u φ⁽ⁿ⁾ + n s φ⁽ⁿ⁻¹⁾)."""
        top = max(orders)
        check_derivative(top)
        shape = self.shape().detach() if shape is None else shape.detach()
        centres, inverse_widths = shape.to(x).unsqueeze(-1)
        targets = {order: out[:, : self.num_basis] for order, out in zip(orders, outs, strict=True)}
        u = (x.unsqueeze(1) - centres).mul_(inverse_widths)
        value = torch.mul(u, u, out=targets.get(0)).neg_().exp_()
        if top == 0:
            return
        slope = -2 * inverse_widths
        u.mul_(slope)
        before, current = value, torch.mul(u, value, out=targets.get(1))
        for n in range(1, top):
            step = torch.mul(u, current, out=targets.get(n + 1))
            before, current = current, step.add_(before * (n * slope * inverse_widths))
