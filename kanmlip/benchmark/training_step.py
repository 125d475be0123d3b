"""Training steps of whole models, to be timed against each other: MLP against KANs, our loop against the upstream ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from kanmlip.data.graph import Graph, batch_graphs
from kanmlip.models.base import ModelConfig
from kanmlip.models.potential import Potential
from kanmlip.placement.config import PlacementConfig
from kanmlip.placement.place import BasisFactory, place
from kanmlip.placement.report import PlacementReport
from kanmlip.training.config import TrainerConfig
from kanmlip.training.order import Part
from kanmlip.training.session import Session
from kanmlip.training.step import training_step

if TYPE_CHECKING:
    from lightning.fabric import Fabric

    from kanmlip.data.statistics import DataStats


@dataclass(frozen=True)
class Setting:
    """What the contenders of one comparison share.

    Attributes:
        model: Hyper-parameters.
        stats: Of the training set.
        graphs: Training structures, one a graph.
        trainer: Loss, optimiser, averaging.
        seed: Of the weights.
    """

    model: ModelConfig
    stats: DataStats
    graphs: Sequence[Graph]
    trainer: TrainerConfig
    seed: int = 1

    def batches(self, device: torch.device) -> list[Graph]:
        """The structures in order, in batches of the trainer's size."""
        size = self.trainer.batch_size
        return [batch_graphs(self.graphs[i : i + size]).to(device) for i in range(0, len(self.graphs), size)]

    def build(self, placement: PlacementConfig, basis: BasisFactory) -> Potential:
        """A fresh potential with the placement's heads."""
        return self.build_and_report(placement, basis)[0]

    def build_and_report(self, placement: PlacementConfig, basis: BasisFactory) -> tuple[Potential, PlacementReport]:
        """The same, and what was replaced."""
        potential = self.model.build(self.stats, getattr(torch, self.trainer.precision), self.seed)
        torch.manual_seed(self.seed)
        return potential, place(potential, self.model, placement, basis, batch_graphs(self.graphs[:8]))


def our_epoch(setting: Setting, potential: Potential, fabric: Fabric) -> Callable[[], None]:
    """One epoch of our trainer's steps over ready batches: loss, backward, clipping, optimiser, averaging."""
    potential.to(fabric.device).train()
    session = Session(potential, setting.trainer)
    data = [Part(graph, graph.num_structures) for graph in setting.batches(fabric.device)]

    def epoch() -> None:
        for part in data:
            training_step(session, part, fabric)

    return epoch
