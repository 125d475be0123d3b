"""Tensors of atoms from scalars of edges and triplets times products of their directions; exact under rotation by construction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from kanmlip.errors import ConfigError
from kanmlip.models.etgnn.geometry import Geometry, within
from kanmlip.models.etgnn.layers import MLP

# Products of u = e_ka and v = e_ai that a triplet k→a→i adds to a tensor of a. The triplet i→a→k, which is there too unless the
# neighbour lists are not mutual, exchanges them, so one of each such pair is enough.
TRIPLET_PRODUCTS = {2: ("uv",), 3: ("uvv", "vuv", "vvu")}
MAX_RANK = 3


@dataclass(frozen=True)
class TensorTarget:
    """A tensor to predict.

    Attributes:
        rank: Cartesian axes, 0 to 3.
        per: ``atom``, or ``structure`` for the mean over its atoms.
        sums_to_zero: Subtract the mean over the atoms of each structure: the acoustic sum rule of Born charges.

    Raises:
        ConfigError: If the rank is above 3.
    """

    rank: int
    per: Literal["atom", "structure"]
    sums_to_zero: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.rank <= MAX_RANK:
            raise ConfigError(f"model=etgnn: a tensor of rank {self.rank} was asked for; choose from: 0, 1, 2, 3")


@dataclass(frozen=True)
class Features:
    """What the heads read.

    Attributes:
        nodes: n, [N, node_features]; none if no target has rank 0.
        edges: x, [E, h].
        triplets: t, [T, features]; none if no target has rank 2 or more.
    """

    nodes: Tensor | None
    edges: Tensor
    triplets: Tensor | None


class TensorHead(nn.Module):
    """One tensor: an MLP turns features into scalars, the scalars weigh products of unit vectors.

    * rank 0: MLP(n_a);
    * rank 1: Σ_j c_ja e_ja over the edges that end at a;
    * rank 2: Σ_j c_ja e_ja⊗e_ja + Σ_{k→a→i} 1[d_ka < r_t] 1[d_ai < r_t] c_kai e_ka⊗e_ai: the triplet part is not symmetric;
    * rank 3: Σ_j c_ja e_ja⊗e_ja⊗e_ja + the same sum over triplets of u⊗v⊗v, v⊗u⊗v and v⊗v⊗u, u = e_ka, v = e_ai, each with a
      scalar of its own.

    Each MLP has two hidden layers, as wide as its input.

    Args:
        target: The tensor.
        widths: Of n, x and t.
        triplet_range: r_t in Å.
    """

    def __init__(self, target: TensorTarget, widths: tuple[int, int, int], triplet_range: float) -> None:
        super().__init__()
        self.target = target
        self.triplet_range = triplet_range
        self.products = TRIPLET_PRODUCTS.get(target.rank, ())
        of_nodes, of_edges, of_triplets = widths
        if target.rank == 0:
            self.node = MLP((of_nodes, of_nodes, of_nodes, 1))
            return
        self.edge = MLP((of_edges, of_edges, of_edges, 1))
        if self.products:
            self.triplet = MLP((of_triplets, of_triplets, of_triplets, len(self.products)))

    def forward(self, features: Features, geometry: Geometry) -> Tensor:
        """[N, 3, …] for a tensor of each atom, [S, 3, …] for one of each structure; float64."""
        # Of a hundred charges of 3 e each float32 loses 1e-5 e in the sum that has to be zero.
        tensor = self.of_atoms(features, geometry).to(torch.float64)
        if self.target.per == "atom" and not self.target.sums_to_zero:
            return tensor
        total = tensor.new_zeros(geometry.atoms_per_structure.shape[0], *tensor.shape[1:]).index_add(0, geometry.batch, tensor)
        mean = total / geometry.atoms_per_structure.view(-1, *[1] * self.target.rank)
        return mean if self.target.per == "structure" else tensor - mean.index_select(0, geometry.batch)

    def of_atoms(self, features: Features, geometry: Geometry) -> Tensor:
        """The tensor of each atom before any mean is taken: [N, 3, …]."""
        if self.target.rank == 0 and features.nodes is not None:
            scalar: Tensor = self.node(features.nodes)
            return scalar.squeeze(1)
        direction = geometry.direction.to(features.edges.dtype)
        powers = outer([direction] * self.target.rank)
        tensor = direction.new_zeros(geometry.num_atoms, *powers.shape[1:])
        tensor = tensor.index_add(0, geometry.target, _times(self.edge(features.edges), powers))
        return tensor if features.triplets is None or not self.products else self.add_triplets(tensor, features.triplets, geometry)

    def add_triplets(self, tensor: Tensor, triplets: Tensor, geometry: Geometry) -> Tensor:
        """``tensor`` [N, 3, …] and the triplet part."""
        direction = geometry.direction.to(triplets.dtype)
        short = within(geometry.distance, self.triplet_range)
        inside = short.index_select(0, geometry.first) & short.index_select(0, geometry.second)
        legs = {"u": direction.index_select(0, geometry.first), "v": direction.index_select(0, geometry.second)}
        scalars = (self.triplet(triplets) * inside.unsqueeze(1)).split(1, dim=1)
        apex = geometry.target.index_select(0, geometry.first)
        part = sum(
            (_times(scalar, outer([legs[name] for name in product])) for scalar, product in zip(scalars, self.products, strict=True)),
            start=direction.new_zeros(1),
        )
        return tensor.index_add(0, apex, part)


def outer(vectors: Sequence[Tensor]) -> Tensor:
    """Outer product of vectors [M, 3] row by row: [M, 3, …], as many axes as vectors."""
    product = vectors[0]
    for vector in vectors[1:]:
        product = product.unsqueeze(-1) * vector.view(-1, *[1] * (product.dim() - 1), 3)
    return product


def _times(scalar: Tensor, tensor: Tensor) -> Tensor:
    return scalar.view(-1, *[1] * (tensor.dim() - 1)) * tensor
