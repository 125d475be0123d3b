"""The network: bases, embeddings, updates of edges and triplets, and the heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from kanmlip.models.etgnn.bases import RadialBasis, SphericalRadialBasis, angular_basis
from kanmlip.models.etgnn.edge_update import EdgeUpdate
from kanmlip.models.etgnn.embedding import EdgeEmbedding, TripletEmbedding
from kanmlip.models.etgnn.geometry import Geometry, Junctions, junctions
from kanmlip.models.etgnn.node_output import NodeOutput
from kanmlip.models.etgnn.portions import Portion, portions
from kanmlip.models.etgnn.tensor_heads import Features, TensorHead, TensorTarget
from kanmlip.models.etgnn.triplet_update import TripletUpdate


@dataclass(frozen=True)
class Sizes:
    """Numbers that fix the shape of the network; see :class:`kanmlip.models.etgnn.config.ETGNN`."""

    hidden: int
    num_blocks: int
    down_features: int
    basis_embedding: int
    triplet_features: int
    node_features: int
    num_radial: int
    num_spherical: int


class ETGNNNetwork(nn.Module):
    """From the geometry of a batch to tensors.

    What no target reads is not there: the triplet branch without a target of rank 2 or more, the node output block without one of
    rank 0, unless ``unread_node_block`` asks for it.

    Args:
        num_species: Chemical species.
        cutoff: r_c in Å.
        triplet_range: r_t in Å.
        legacy_cutoff: See :class:`SphericalRadialBasis`.
        sizes: Widths and numbers of layers.
        targets: Name → tensor to predict.
        unread_node_block: Carry the node output block and the MLP on it even if nothing reads them.
    """

    def __init__(
        self,
        num_species: int,
        cutoff: float,
        triplet_range: float,
        legacy_cutoff: bool,
        sizes: Sizes,
        targets: Mapping[str, TensorTarget],
        unread_node_block: bool = False,
    ) -> None:
        super().__init__()
        h, radial, orders = sizes.hidden, sizes.num_radial, sizes.num_spherical
        self.orders = orders
        self.radial_basis = RadialBasis(cutoff, radial)
        self.spherical_basis = SphericalRadialBasis(cutoff, orders, radial, legacy_cutoff)
        self.species = nn.Embedding(num_species, h)
        self.edge_embedding = EdgeEmbedding(radial, h)
        self.edge_updates = nn.ModuleList(
            EdgeUpdate(h, sizes.down_features, radial, orders, radial, sizes.basis_embedding) for _ in range(sizes.num_blocks)
        )
        self.triplet_embedding: TripletEmbedding | None = None
        self.triplet_updates = nn.ModuleList()
        t, functions = sizes.triplet_features, orders * radial
        if any(target.rank >= 2 for target in targets.values()):
            self.triplet_embedding = TripletEmbedding(radial, functions, h, t)
            self.triplet_updates.extend(
                TripletUpdate(h, t, sizes.down_features, radial, functions, sizes.basis_embedding) for _ in range(sizes.num_blocks)
            )
        widths = (sizes.node_features, h, t)
        self.heads = nn.ModuleDict({name: TensorHead(target, widths, triplet_range) for name, target in sorted(targets.items())})
        # A list of one block or none: a placement's glob may then ask for all blocks there are without asking for this one.
        self.edge_totals = nn.ModuleList()
        if any(target.rank == 0 for target in targets.values()):
            self.edge_totals.append(NodeOutput(h, radial, sizes.node_features))
        elif unread_node_block:
            self.unread = nn.ModuleList(
                [NodeOutput(h, radial, sizes.node_features), TensorHead(TensorTarget(0, "atom"), widths, triplet_range)]
            )

    def forward(self, geometry: Geometry, species: Tensor) -> dict[str, Tensor]:
        """Tensors by name, float64.

        Args:
            geometry: The batch.
            species: [N], int64, index of each atom's species.
        """
        features = self.features(geometry, species)
        return {name: cast("TensorHead", head)(features, geometry) for name, head in self.heads.items()}

    def features(self, geometry: Geometry, species: Tensor) -> Features:
        """Features of atoms, edges and triplets after the last block."""
        atoms = self.species(species)
        dtype = atoms.dtype
        rbf = self.radial_basis(geometry.distance).to(dtype)
        radial = self.spherical_basis(geometry.distance).to(dtype)
        meeting = junctions(geometry)
        angular = _weights_of_junctions(meeting, self.orders, dtype)
        ends = atoms.index_select(0, geometry.target), atoms.index_select(0, geometry.source)
        x = self.edge_embedding(*ends, rbf)
        parts = [] if self.triplet_embedding is None else [self.triplet_embedding.edge_parts(*ends, rbf)]
        for index, update in enumerate(self.edge_updates):
            x = update(x, rbf, radial, angular, meeting)
            if self.triplet_embedding is not None:
                parts.append(cast("TripletUpdate", self.triplet_updates[index]).edge_parts(x, rbf))
        nodes = [block(x, rbf, geometry.target, geometry.num_atoms) for block in self.edge_totals]
        t = None if self.triplet_embedding is None else self.triplet_features(geometry, radial, parts)
        return Features(nodes[0] if nodes else None, x, t)

    def triplet_features(self, geometry: Geometry, radial: Tensor, parts: list[tuple[Tensor, Tensor]]) -> Tensor:
        """t [T, features] after the last block.

        Args:
            geometry: The batch.
            radial: R_ln(d), [E, orders, num_radial].
            parts: What edges bring to the embedding and to each update, as k→j and as j→i.
        """
        features = parts[0][0].shape[1]
        flat = [part for pair in parts for part in pair]
        done = [self.triplet_portion(portion) for portion in portions(geometry, [geometry.direction, radial, *flat], features)]
        return torch.cat(done)

    def triplet_portion(self, portion: Portion) -> Tensor:
        """t of the triplets of some structures: all blocks, one after another, while their features are in the cache."""
        direction, radial, *parts = portion.edge_values
        first, second = portion.first, portion.second
        cosine = (direction.index_select(0, first) * direction.index_select(0, second)).sum(1)
        angular = angular_basis(cosine, self.orders).to(radial.dtype)
        sbf = (radial.index_select(0, first) * angular.unsqueeze(2)).flatten(1)
        as_first, as_second = ([part.index_select(0, index) for part in parts[n::2]] for n, index in enumerate((first, second)))
        t: Tensor = cast("TripletEmbedding", self.triplet_embedding)(as_first[0], as_second[0], sbf)
        for update, message, gate in zip(self.triplet_updates, as_first[1:], as_second[1:], strict=True):
            t = update(t, message, gate, sbf)
        return t


def _weights_of_junctions(meeting: Junctions, orders: int, dtype: torch.dtype) -> Tensor:
    """Y_l(α) in the form that ``EdgeUpdate`` takes: [N, K_out, orders · K_in], zero on the way back."""
    atoms, k_in, k_out = meeting.shape
    angular = angular_basis(meeting.cosine, orders).to(dtype) * meeting.allowed.unsqueeze(-1)
    return angular.transpose(2, 3).reshape(atoms, k_out, orders * k_in)
