"""First features of edges and triplets: from species, distances and angles."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kanmlip.models.etgnn.layers import elu, linear


class EdgeEmbedding(nn.Module):
    """x_ji = σ(W [a_i, a_j, σ(W rbf_ji)]).

    Args:
        num_radial: Radial basis functions.
        width: Of a_Z and of x, h.
    """

    def __init__(self, num_radial: int, width: int) -> None:
        super().__init__()
        self.radial = linear(num_radial, width)
        self.mix = linear(3 * width, width)

    def forward(self, target_atom: Tensor, source_atom: Tensor, rbf: Tensor) -> Tensor:
        """Edge features [E, h] from a_i [E, h], a_j [E, h] and rbf [E, num_radial]."""
        return elu(self.mix(torch.cat([target_atom, source_atom, elu(self.radial(rbf))], dim=1)))


class TripletEmbedding(nn.Module):
    """t_kji = σ(W [a_i, a_j, a_k, σ(W rbf_ji), σ(W sbf_kji)]), no biases.

    All but the last part of the sum W [...] belong to one edge or the other: they are multiplied once an edge and then
    gathered.

    Args:
        num_radial: Radial basis functions.
        num_spherical: Functions of a distance and an angle.
        width: Of a_Z, h.
        features: Of t.
    """

    def __init__(self, num_radial: int, num_spherical: int, width: int, features: int) -> None:
        super().__init__()
        self.radial = linear(num_radial, features, bias=False)
        self.spherical = linear(num_spherical, features, bias=False)
        self.mix = linear(3 * width + 2 * features, features, bias=False)
        self.sizes = [2 * width, width, features, features]

    def edge_parts(self, target_atom: Tensor, source_atom: Tensor, rbf: Tensor) -> tuple[Tensor, Tensor]:
        """What an edge adds to the sum as k→j, and what it adds as j→i, each [E, features]; arguments as of an edge j→i."""
        of_ends, of_k, of_radial, _ = torch.split(self.mix.weight, self.sizes, dim=1)
        as_first = nn.functional.linear(source_atom, of_k)
        ends = nn.functional.linear(torch.cat([target_atom, source_atom], dim=1), of_ends)
        return as_first, ends + nn.functional.linear(elu(self.radial(rbf)), of_radial)

    def forward(self, as_first: Tensor, as_second: Tensor, sbf: Tensor) -> Tensor:
        """Triplet features [T, features] from the parts of both edges, [T, features], and sbf [T, num_spherical]."""
        of_sbf = self.mix.weight[:, -self.sizes[-1] :]
        return elu(nn.functional.linear(elu(self.spherical(sbf)), of_sbf) + as_first + as_second)
