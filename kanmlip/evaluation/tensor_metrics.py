"""Errors of tensors per atom or per structure: of all components, by species, by place, and of those that symmetry leaves free."""

from __future__ import annotations

from collections.abc import Callable

import torch
from ase.data import chemical_symbols
from torch import Tensor
from torchmetrics import MeanAbsoluteError, MeanSquaredError, Metric

from kanmlip.data.labels import Label
from kanmlip.evaluation.structure_errors import SYMMETRY_ZERO


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
        self._take("mae", MeanAbsoluteError, prediction, target)
        self._take("rmse", lambda: MeanSquaredError(squared=False), prediction, target)
        free = target.abs() > SYMMETRY_ZERO
        self._take("mae_free", MeanAbsoluteError, prediction[free], target[free])
        if self.label.per == "atom":
            for z in torch.unique(atomic_numbers).tolist():
                chosen = atomic_numbers == z
                self._take(f"mae_{chemical_symbols[z]}", MeanAbsoluteError, prediction[chosen], target[chosen])
        if self.label.rank == 2:
            diagonal = torch.eye(3, dtype=torch.bool, device=target.device).expand_as(target)
            self._take("mae_diagonal", MeanAbsoluteError, prediction[diagonal], target[diagonal])
            self._take("mae_off_diagonal", MeanAbsoluteError, prediction[~diagonal], target[~diagonal])

    def _take(self, statistic: str, make: Callable[[], Metric], prediction: Tensor, target: Tensor) -> None:
        if target.numel() == 0:
            return
        key = self.label.key(statistic)
        if key not in self.metrics:
            self.metrics[key] = make().set_dtype(torch.float64).to(self.device)
        self.metrics[key].update(prediction.reshape(-1).contiguous(), target.reshape(-1).contiguous())

    def compute(self) -> dict[str, float]:
        """Metric key → value, over everything taken in."""
        return {key: float(metric.compute()) for key, metric in self.metrics.items()}
