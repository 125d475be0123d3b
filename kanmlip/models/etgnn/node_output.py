"""The node output block: features of atoms from those of the edges that end there."""

from __future__ import annotations

from torch import Tensor, nn

from kanmlip.models.etgnn.layers import linear


class NodeOutput(nn.Module):
    """n_i = W_up Σ_j (W rbf_ji) ⊙ x_ji, no biases.

    Args:
        width: Of x, h.
        num_radial: Radial basis functions.
        node_features: Of n.
    """

    def __init__(self, width: int, num_radial: int, node_features: int) -> None:
        super().__init__()
        self.radial = linear(num_radial, width, bias=False)
        self.up = linear(width, node_features, bias=False)

    def forward(self, x: Tensor, rbf: Tensor, target: Tensor, num_atoms: int) -> Tensor:
        """Node features [N, node_features] from x [E, h], rbf [E, num_radial] and the atom i of each edge [E]."""
        summed = x.new_zeros(num_atoms, x.shape[1]).index_add(0, target, self.radial(rbf) * x)
        nodes: Tensor = self.up(summed)
        return nodes
