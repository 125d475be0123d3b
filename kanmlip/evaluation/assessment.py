"""One pass of a potential over a labelled set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kanmlip.data.batching import Limits, Sizes, divide
from kanmlip.data.graph import Graph
from kanmlip.data.labels import tensors_in
from kanmlip.evaluation.metrics import PotentialMetrics
from kanmlip.training.order import batches
from kanmlip.training.ranks import ALONE, Ranks


@dataclass(frozen=True)
class Evaluation:
    """Metrics of a set and, if asked for, every prediction.

    Attributes:
        metrics: Keys of :data:`kanmlip.evaluation.metrics.METRICS` and of :class:`kanmlip.evaluation.tensor_metrics.TensorMetrics`
            for the labels that the set has and the potential predicts.
        predictions: ``energy_true``/``energy_pred`` [S] eV, ``forces_…`` [N, 3] eV/Å, ``stress_…`` [S, 3, 3] eV/Å³,
            ``born_effective_charges_…`` [N, 3, 3] e, ``dielectric_tensor_…`` [S, 3, 3]; ``num_atoms`` [S], ``frame`` [S]; with
            tensors also ``atomic_numbers`` [N].
    """

    metrics: dict[str, float]
    predictions: dict[str, NDArray[np.generic]] = field(default_factory=dict)


def evaluate(
    potential: nn.Module,
    graphs: Sequence[Graph],
    batch_size: int | Limits,
    device: torch.device | str,
    dtype: torch.dtype | None = None,
    with_predictions: bool = True,
    ranks: Ranks = ALONE,
) -> Evaluation:
    """Evaluate a potential in evaluation mode; its mode is put back afterwards.

    Args:
        potential: Called with a batch and ``compute_stress``.
        graphs: The set; labels that every structure has are compared.
        batch_size: Structures at a time, or what else limits them.
        device: Where to compute.
        dtype: Unused by kanmlip's potentials, which take float64 geometry whatever their precision.
        with_predictions: Also return every prediction.
        ranks: Processes that divide the set among themselves; each gets the metrics of the whole set, and predictions of its own part.
    """
    device = torch.device(device)
    limits = Limits(batch_size) if isinstance(batch_size, int) else batch_size
    labels = set.intersection(*(set(graph.labels) for graph in graphs))
    if ranks.size > 1:
        graphs = [graphs[i] for i in divide(Sizes.of(graphs).work, ranks.size)[ranks.rank]]
    metrics: PotentialMetrics | None = None
    collected: dict[str, list[NDArray[np.generic]]] = {}
    was_training = potential.training
    potential.to(device).eval()
    try:
        for graph in batches(graphs, limits, device):
            output = potential(graph, compute_stress="stress" in labels)
            output = {name: value.detach() for name, value in output.items()}
            compared = labels & set(output)
            metrics = metrics or PotentialMetrics(compared, device)
            metrics.update(output, graph)
            if with_predictions:
                for name in sorted(compared):
                    collected.setdefault(f"{name}_true", []).append(graph.labels[name].cpu().numpy())
                    collected.setdefault(f"{name}_pred", []).append(output[name].cpu().numpy())
                collected.setdefault("num_atoms", []).append(graph.num_atoms.cpu().numpy())
                collected.setdefault("frame", []).append(graph.frame.cpu().numpy())
                if tensors_in(compared):
                    collected.setdefault("atomic_numbers", []).append(graph.atomic_numbers.cpu().numpy())
    finally:
        potential.train(was_training)
    return Evaluation(_reduced(metrics, ranks), {name: np.concatenate(parts) for name, parts in collected.items()})


def _reduced(metrics: PotentialMetrics | None, ranks: Ranks) -> dict[str, float]:
    """Metrics over what all processes took in, the same on each: sums and counts are added, nothing is averaged twice."""
    if ranks.size > 1:
        for rank, sums in enumerate(ranks.gather(metrics.sums() if metrics else {})):
            if metrics is not None and rank != ranks.rank:
                metrics.merge(sums)
    # The first process has structures if any has; what it computes is everybody's, to the last bit.
    values: dict[str, float] = ranks.share(metrics.compute() if metrics and ranks.leads else {})
    return values
