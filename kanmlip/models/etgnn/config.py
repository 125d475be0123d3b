"""Settings of ETGNN, and what placements replace in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from pydantic import Field, field_validator

from kanmlip.data.labels import TENSOR_LABELS
from kanmlip.errors import describe_choice
from kanmlip.models.base import ModelConfig

if TYPE_CHECKING:
    import torch
    from torch import nn

    from kanmlip.data.neighbours import Connectivity
    from kanmlip.data.statistics import DataStats
    from kanmlip.models.potential import Potential
    from kanmlip.placement.config import PlacementConfig
    from kanmlip.placement.head import Swap

LEARNABLE = {label.name: label for label in TENSOR_LABELS}
# A crystal moved as a whole is not polarised: the Born charges of its atoms add up to zero (Pick, Cohen, Martin, PRB 1, 910 (1970)).
ACOUSTIC_SUM_RULE = frozenset({"born_effective_charges"})


class Predicts:
    """``ETGNN.predicts`` is all that the model can learn; of its settings it is what they choose to."""

    def __get__(self, settings: ETGNN | None, owner: type[ETGNN]) -> frozenset[str]:
        """See the class."""
        return frozenset(LEARNABLE if settings is None else settings.labels)


class ETGNN(ModelConfig):
    """An edge-based tensor prediction network of our own, from the equations of Zhong et al., J. Phys. Chem. Lett. 14, 6339 (2023).

    Attributes:
        labels: Tensors to learn, by the names of :data:`kanmlip.data.labels.TENSOR_LABELS`.
        triplet_range: r_t in Å: triplets with a longer leg add nothing to a tensor.
        neighbours: ``shell`` completes the shell of the last of ``max_neighbours``; ``nearest`` cuts it where the order of the
            atoms happens to, as the authors do.
        max_neighbours: Neighbours of each atom within the cutoff.
        prune_triplets: Leave out triplets beyond r_t from the start, which changes no tensor.
        legacy_cutoff: The authors' envelope of sbf, which hardly falls off; see ``SphericalRadialBasis``.
        acoustic_sum_rule: Make Born charges add up to zero by taking their mean off. The authors do not.
        hidden: Width of edge features.
        num_blocks: Edge and triplet updates.
        down_features: Width of messages.
        basis_embedding: Rank of the maps from basis functions to weights.
        triplet_features: Width of triplet features.
        node_features: Width of node features, which only tensors of rank 0 are read from.
        unread_node_block: Carry the node output block and the MLP on it even where nothing reads them, as the published model does
            and counts them. Training leaves them as they are.
        num_radial: Radial functions; as many for each order of the spherical ones.
        num_spherical: Orders l of the spherical functions.
    """

    targets: ClassVar = {
        "output": ("heads.*.*",),
        # edge_updates and edge_totals, the node output block: the latter is there for tensors of rank 0 alone.
        "projections": ("edge_updates.*.message.down", "edge_*.*.up"),
    }
    placements: ClassVar = {"none": (), "output": ("output",), "output_literal": ("projections",)}
    requires: ClassVar = {}
    predicts: ClassVar = Predicts()

    labels: tuple[str, ...] = Field(min_length=1)
    triplet_range: float = Field(gt=0)
    neighbours: Literal["shell", "nearest"]
    max_neighbours: int = Field(ge=1)
    prune_triplets: bool
    legacy_cutoff: bool
    acoustic_sum_rule: bool
    hidden: int = Field(ge=1)
    num_blocks: int = Field(ge=1)
    down_features: int = Field(ge=1)
    basis_embedding: int = Field(ge=1)
    triplet_features: int = Field(ge=1)
    node_features: int = Field(ge=1)
    unread_node_block: bool
    num_radial: int = Field(ge=1)
    num_spherical: int = Field(ge=1)

    @field_validator("labels")
    @classmethod
    def _known(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        for label in labels:
            if label not in LEARNABLE:
                raise ValueError(describe_choice("model.labels", label, LEARNABLE))
        return tuple(sorted(set(labels)))

    def connectivity(self) -> Connectivity:
        """See :meth:`ModelConfig.connectivity`."""
        from kanmlip.models.etgnn.topology import NearestNeighbours

        return NearestNeighbours(
            cutoff=self.cutoff,
            max_neighbours=self.max_neighbours,
            whole_shells=self.neighbours == "shell",
            triplet_range=self.triplet_range if self.prune_triplets else None,
        )

    def build(self, stats: DataStats, dtype: torch.dtype, seed: int) -> Potential:
        """See :meth:`ModelConfig.build`; the weights of a seed are the same in every precision, up to rounding."""
        import torch

        from kanmlip.models.etgnn.network import ETGNNNetwork, Sizes
        from kanmlip.models.etgnn.potential import TensorPotential
        from kanmlip.models.etgnn.tensor_heads import TensorTarget

        fields: dict[str, Any] = self.model_dump(include=set(Sizes.__dataclass_fields__))
        targets = {
            name: TensorTarget(LEARNABLE[name].rank, LEARNABLE[name].per, self.acoustic_sum_rule and name in ACOUSTIC_SUM_RULE)
            for name in self.labels
        }
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = ETGNNNetwork(
                num_species=len(stats.atomic_numbers),
                cutoff=self.cutoff,
                triplet_range=self.triplet_range,
                legacy_cutoff=self.legacy_cutoff,
                sizes=Sizes(**fields),
                targets=targets,
                unread_node_block=self.unread_node_block,
            )
        for parameter in network.parameters():  # not network.to(dtype): tables of basis functions stay float64
            parameter.data = parameter.data.to(dtype)
        return TensorPotential(network, stats.atomic_numbers, self.triplet_range)

    def swap(self, module: nn.Module, group: str, placement: PlacementConfig) -> Swap:
        """A KAN of the widths of the MLP, or of the linear map, that stands there."""

        from kanmlip.models.etgnn.layers import MLP
        from kanmlip.placement.head import Swap

        if isinstance(module, MLP):
            return Swap(module.widths, lambda kan: kan)
        projection = cast("nn.Linear", module)
        return Swap((projection.in_features, projection.out_features), lambda kan: kan)
