"""Errors of tensors per atom or per structure: of all components, by species, by place, and of those that symmetry leaves free."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from ase.data import chemical_symbols
from torch import Tensor
from torchmetrics import MeanAbsoluteError, MeanSquaredError, Metric

from kanmlip.data.labels import Label
from kanmlip.evaluation.structure_errors import SYMMETRY_ZERO


def make_metric(kind: str, device: torch.device) -> Metric:
    """``mae`` or ``rmse`` in float64; over the processes of a run we reduce it ourselves, since they may have met different species."""
    metric: Metric = MeanAbsoluteError(sync_on_compute=False) if kind == "mae" else MeanSquaredError(squared=False, sync_on_compute=False)
    return metric.set_dtype(torch.float64).to(device)


class TensorMetrics:
    """Metrics of one label over a set, exact over batches of any size.

    Keys are ``<metric>_<statistic><unit>`` with the statistics ``mae`` and ``rmse`` over all components; ``mae_<symbol>`` by species
    for a label per atom; ``mae_diagonal`` and ``mae_off_diagonal`` for rank 2; and ``mae_free`` over the components whose label
    exceeds :data:`kanmlip.evaluation.structure_errors.SYMMETRY_ZERO`. Born charges: ``bec_mae_e``, ``bec_mae_O_e``, …; dielectric
    tensors: ``dielectric_mae``, ….

    Args:
        label: What is compared.
        device: Where predictions live.
    """

    def __init__(self, label: Label, device: torch.device) -> None:
        self.label = label
        self.device = device
        self.metrics: dict[str, Metric] = {}

    def update(self, prediction: Tensor, target: Tensor, atomic_numbers: Tensor) -> None:
        """Take in one batch.

        Args:
            prediction: [N, 3, …] or [S, 3, …].
            target: The label, of the same shape.
            atomic_numbers: [N].
        """
        prediction, target = prediction.double(), target.double()
        self._take("mae", prediction, target)
        self._take("rmse", prediction, target)
        free = target.abs() > SYMMETRY_ZERO
        self._take("mae_free", prediction[free], target[free])
        if self.label.per == "atom":
            for z in torch.unique(atomic_numbers).tolist():
                chosen = atomic_numbers == z
                self._take(f"mae_{chemical_symbols[z]}", prediction[chosen], target[chosen])
        if self.label.rank == 2:
            diagonal = torch.eye(3, dtype=torch.bool, device=target.device).expand_as(target)
            self._take("mae_diagonal", prediction[diagonal], target[diagonal])
            self._take("mae_off_diagonal", prediction[~diagonal], target[~diagonal])

    def _take(self, statistic: str, prediction: Tensor, target: Tensor) -> None:
        if target.numel() > 0:
            self._metric(self.label.key(statistic)).update(prediction.reshape(-1).contiguous(), target.reshape(-1).contiguous())

    def _metric(self, key: str) -> Metric:
        if key not in self.metrics:
            kind = "rmse" if key == self.label.key("rmse") else "mae"
            self.metrics[key] = make_metric(kind, self.device)
        return self.metrics[key]

    def merge(self, sums: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take in sums and counts of another process; those of other labels are passed over."""
        for key, states in sums.items():
            if key.startswith(f"{self.label.metric}_"):
                metric = self._metric(key)
                if not metric.update_called:
                    metric.update(*torch.zeros(2, 0, dtype=torch.float64, device=self.device))  # else it would warn that it has nothing
                metric.merge_state({name: value.to(self.device) for name, value in states.items()})

    def compute(self) -> dict[str, float]:
        """Metric key → value, over everything taken in."""
        return {key: float(metric.compute()) for key, metric in self.metrics.items()}
