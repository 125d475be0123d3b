"""The edge update: messages along k→j, weighted by the angle at j, change the features of j→i."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from kanmlip.models.etgnn.geometry import Junctions
from kanmlip.models.etgnn.layers import LowRank, elu, linear, residuals


class Message(nn.Module):
    """m_kj = σ(W_down (σ(W x_kj) ⊙ W2 W1 rbf_kj)): what an edge hands on; the edge and the triplet update each have their own.

    Args:
        width: Of x, h.
        down_features: Of m.
        num_radial: Radial basis functions.
        basis_embedding: Rank of W2 W1.
    """

    def __init__(self, width: int, down_features: int, num_radial: int, basis_embedding: int) -> None:
        super().__init__()
        self.dense = linear(width, width)
        self.radial = LowRank(num_radial, basis_embedding, width)
        self.down = linear(width, down_features, bias=False)

    def forward(self, x: Tensor, rbf: Tensor) -> Tensor:
        """[E, down_features] from x [E, h] and rbf [E, num_radial]."""
        # Not in place: whatever stands for W_down may keep its output.
        return nn.functional.elu(self.down(elu(self.dense(x)) * self.radial(rbf)))


class EdgeUpdate(nn.Module):
    """M_ji = W_up Σ_k m_kj ⊙ W4 W3 sbf_kji; h = Res(σ(W x_ji) + M_ji); h = σ(W h) + x_ji; x_ji ← Res Res h.

    The sum runs over all k→j within r_c but the way back. With sbf_kji,ln = R_ln(d_kj) Y_l(α) it is
    Σ_l Σ_k Y_l(α_kji) G_kj,l, G_kj,l = m_kj ⊙ Σ_n (W4 W3)_ln R_ln(d_kj), so what depends on a triplet is Y_l alone, which all
    blocks share, and the sum is a product of two matrices for each atom j.

    Args:
        width: Of x, h.
        down_features: Of messages.
        num_radial: Radial basis functions.
        orders: Number of l in sbf.
        radial_per_order: Radial functions of each l in sbf.
        basis_embedding: Rank of W2 W1 and of W4 W3.
        before_skip: Residual layers before x_ji is added again.
        after_skip: Residual layers after that.
    """

    def __init__(
        self,
        width: int,
        down_features: int,
        num_radial: int,
        orders: int,
        radial_per_order: int,
        basis_embedding: int,
        before_skip: int = 1,
        after_skip: int = 2,
    ) -> None:
        super().__init__()
        self.message = Message(width, down_features, num_radial, basis_embedding)
        self.spherical = LowRank(orders * radial_per_order, basis_embedding, down_features)
        self.orders = orders
        self.up = linear(down_features, width, bias=False)
        self.dense = linear(width, width)
        self.before_skip = residuals(width, before_skip)
        self.skip = linear(width, width)
        self.after_skip = residuals(width, after_skip)

    def forward(self, x: Tensor, rbf: Tensor, radial: Tensor, angular: Tensor, where: Junctions) -> Tensor:
        """Features after the update.

        Args:
            x: [E, h].
            rbf: [E, num_radial].
            radial: R_ln(d), [E, orders, radial_per_order].
            angular: Y_l(α) of junctions, zero on the way back, [N, K_out, orders · K_in] with K_in last.
            where: Slots of the edges.

        Returns:
            [E, h].
        """
        summed = self.sum_over_first(self.message(x, rbf), radial, angular, where)
        hidden = self.before_skip(elu(self.dense(x)) + self.up(summed))
        return cast("Tensor", self.after_skip(elu(self.skip(hidden)) + x))

    def sum_over_first(self, message: Tensor, radial: Tensor, angular: Tensor, where: Junctions) -> Tensor:
        """Σ_k m_kj ⊙ W4 W3 sbf_kji for each edge j→i: [E, down_features]."""
        atoms, k_in, k_out = where.shape
        weight = (self.spherical.expand.weight @ self.spherical.reduce.weight).t().reshape(self.orders, -1, message.shape[1])
        # [orders, E, down_features]: a small product for each l, on all edges at once.
        weighted = torch.bmm(radial.transpose(0, 1), weight) * message
        padded = message.new_zeros(self.orders, atoms * k_in, message.shape[1]).index_copy(1, where.slot_in, weighted)
        padded = padded.view(self.orders, atoms, k_in, -1).transpose(0, 1).reshape(atoms, self.orders * k_in, -1)
        return torch.bmm(angular, padded).view(atoms * k_out, -1).index_select(0, where.slot_out)
