"""The triplet update: features of k→j→i, which the tensors' triplet parts are read from; they never act on edges."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from kanmlip.models.etgnn.edge_update import Message
from kanmlip.models.etgnn.layers import LowRank, elu, linear, residuals


class TripletUpdate(nn.Module):
    """h = W (m_kj ⊙ W4 W3 sbf_kji); h = Res Res h; h = h ⊙ W6 W5 rbf_ji; h = σ(W t) + h; t ← t + Res Res h.

    Args:
        width: Of x, h.
        features: Of t.
        down_features: Of messages.
        num_radial: Radial basis functions.
        num_spherical: Functions of a distance and an angle.
        basis_embedding: Rank of the products W2 W1, W4 W3 and W6 W5.
        num_residual: Residual layers in each of the two places.
    """

    def __init__(
        self,
        width: int,
        features: int,
        down_features: int,
        num_radial: int,
        num_spherical: int,
        basis_embedding: int,
        num_residual: int = 2,
    ) -> None:
        super().__init__()
        self.message = Message(width, down_features, num_radial, basis_embedding)
        self.spherical = LowRank(num_spherical, basis_embedding, down_features)
        self.up = linear(down_features, features, bias=False)
        self.before_gate = residuals(features, num_residual)
        self.gate = LowRank(num_radial, basis_embedding, features)
        self.dense = linear(features, features)
        self.after_gate = residuals(features, num_residual)

    def edge_parts(self, x: Tensor, rbf: Tensor) -> tuple[Tensor, Tensor]:
        """What edges bring: m_kj [E, down_features] of k→j, and W6 W5 rbf_ji [E, features] of j→i."""
        return self.message(x, rbf), self.gate(rbf)

    def forward(self, t: Tensor, message: Tensor, gate: Tensor, sbf: Tensor) -> Tensor:
        """Features after the update, [T, features].

        Args:
            t: [T, features].
            message: m_kj, [T, down_features].
            gate: W6 W5 rbf_ji, [T, features].
            sbf: [T, num_spherical].
        """
        hidden = self.before_gate(self.up(message * self.spherical(sbf))) * gate
        return t + cast("Tensor", self.after_gate(elu(self.dense(t)) + hidden))
