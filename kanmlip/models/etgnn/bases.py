"""Basis functions of distances and angles: what the network sees of a geometry."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from kanmlip.models.etgnn.spherical_bessel import radial_series


def cosine_envelope(distance: Tensor, cutoff: float) -> Tensor:
    """½ (1 + cos(πd/r_c)) for distances in Å, of any shape."""
    return 0.5 * (1 + torch.cos(math.pi / cutoff * distance))


class RadialBasis(nn.Module):
    """rbf_n(d) = ½ (1 + cos(πd/r_c)) sin(nπd/r_c)/d with n = 1 … size: fixed frequencies.

    Args:
        cutoff: r_c in Å.
        size: Number of functions.
    """

    order: Tensor

    def __init__(self, cutoff: float, size: int) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.register_buffer("order", torch.arange(1, size + 1, dtype=torch.float64), persistent=False)

    def forward(self, distance: Tensor) -> Tensor:
        """[E, size], float64, from distances [E] in Å."""
        order = self.order.to(torch.float64)
        # sinc, sin(πx)/(πx), is smooth at zero.
        waves = order * torch.sinc(distance.unsqueeze(-1) * (order / self.cutoff)) * (math.pi / self.cutoff)
        return cosine_envelope(distance, self.cutoff).unsqueeze(-1) * waves


class SphericalRadialBasis(nn.Module):
    """The part of sbf_ln that depends on the distance: g(d) N_ln j_l(z_ln d/r_c), N_ln = √2/|j_{l+1}(z_ln)|.

    Args:
        cutoff: r_c in Å.
        orders: Number of l.
        size: Number of functions of each l.
        legacy_cutoff: The authors' g(d) = ½ (1 + cos(πd/r_c²)), which hands d/r_c to an envelope that divides by r_c again and so
            hardly falls off; else g(d) = ½ (1 + cos(πd/r_c)).
    """

    series: Tensor

    def __init__(self, cutoff: float, orders: int, size: int, legacy_cutoff: bool) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.envelope_cutoff = cutoff**2 if legacy_cutoff else cutoff
        self.register_buffer("series", torch.from_numpy(radial_series(orders, size)), persistent=False)

    def forward(self, distance: Tensor) -> Tensor:
        """[E, orders, size], float64, from distances [E] in Å, at most r_c."""
        series = self.series.to(torch.float64)
        u = 2 / self.cutoff * distance - 1
        polynomials = [torch.ones_like(u), u]
        for _ in range(series.shape[0] - 2):
            polynomials.append(2 * u * polynomials[-1] - polynomials[-2])
        functions = torch.stack(polynomials, dim=-1) @ series.flatten(1)
        envelope = cosine_envelope(distance, self.envelope_cutoff).unsqueeze(-1)
        return (envelope * functions).view(-1, *series.shape[1:])


def angular_basis(cosine: Tensor, orders: int) -> Tensor:
    """Y_l0(α) = √((2l+1)/4π) P_l(cos α): smooth at α = 0 and π too, where the angle itself is not.

    Args:
        cosine: cos α, any shape.
        orders: Number of l.

    Returns:
        The shape of ``cosine`` and one axis more, [..., orders].
    """
    legendre = [torch.ones_like(cosine), cosine]
    for order in range(2, orders):
        legendre.append(((2 * order - 1) * cosine * legendre[-1] - (order - 1) * legendre[-2]) / order)
    return torch.stack([math.sqrt((2 * order + 1) / (4 * math.pi)) * legendre[order] for order in range(orders)], dim=-1)
