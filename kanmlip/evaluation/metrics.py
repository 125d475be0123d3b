"""Errors of every label that a potential predicts, under keys that carry their unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor
from torchmetrics import Metric

from kanmlip.data.graph import Graph
from kanmlip.data.labels import tensors_in
from kanmlip.evaluation.tensor_metrics import TensorMetrics, make_metric

# Of energies and what follows from them; those of other tensors are kanmlip.evaluation.tensor_metrics.
# Metric key → (label, kind of metric, factor from eV, Å to the key's unit).
METRICS: dict[str, tuple[str, str, float]] = {
    "energy_mae_eV_per_atom": ("energy_per_atom", "mae", 1.0),
    "energy_mae_eV_per_cell": ("energy", "mae", 1.0),
    "energy_rmse_meV_per_atom": ("energy_per_atom", "rmse", 1e3),
    "force_mae_eV_per_A": ("forces", "mae", 1.0),
    "force_rmse_meV_per_A": ("forces", "rmse", 1e3),
    "stress_mae_meV_per_A3": ("stress", "mae", 1e3),
    "stress_rmse_meV_per_A3": ("stress", "rmse", 1e3),
    # What predicting no stress at all scores: the figure to hold a stress error against.
    "stress_zero_rmse_meV_per_A3": ("stress_zero", "rmse", 1e3),
}


class PotentialMetrics:
    """All metrics of one pass over a set, exact over batches of any size (torchmetrics accumulate sums and counts).

    Args:
        labels: Labels that the set has and the potential predicts.
        device: Where predictions live.
    """

    def __init__(self, labels: set[str], device: torch.device) -> None:
        self.metrics: dict[str, Metric] = {}
        for key, (label, kind, _) in METRICS.items():
            if label.split("_")[0] in labels:
                self.metrics[key] = make_metric(kind, device)
        self.tensors = [TensorMetrics(label, device) for label in tensors_in(labels)]

    def update(self, output: Mapping[str, Tensor], graph: Graph) -> None:
        """Take in one batch."""
        pairs = {name: (output[name], label) for name, label in graph.labels.items() if name in output}
        if "energy" in pairs:
            pairs["energy_per_atom"] = (pairs["energy"][0] / graph.num_atoms, pairs["energy"][1] / graph.num_atoms)
        if "stress" in pairs:
            pairs["stress_zero"] = (torch.zeros_like(pairs["stress"][1]), pairs["stress"][1])
        for key, metric in self.metrics.items():
            prediction, label = pairs[METRICS[key][0]]
            metric.update(prediction.double().reshape(-1).contiguous(), label.double().reshape(-1).contiguous())
        for tensor in self.tensors:
            tensor.update(*pairs[tensor.label.name], graph.atomic_numbers)

    def sums(self) -> dict[str, dict[str, Tensor]]:
        """Metric key → sums and counts of what was taken in, for :meth:`merge`."""
        metrics = [self.metrics, *(tensor.metrics for tensor in self.tensors)]
        return {key: cast("dict[str, Tensor]", metric.metric_state) for group in metrics for key, metric in group.items()}

    def merge(self, sums: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take in what another process took in of the same labels; it may have met species that were not met here."""
        for key, metric in self.metrics.items():
            if key in sums:
                metric.merge_state({name: value.to(metric.device) for name, value in sums[key].items()})
        for tensor in self.tensors:
            tensor.merge(sums)

    def compute(self) -> dict[str, float]:
        """Metric key → value, over everything taken in."""
        values = {key: METRICS[key][2] * float(metric.compute()) for key, metric in self.metrics.items()}
        for tensor in self.tensors:
            values |= tensor.compute()
        return values
