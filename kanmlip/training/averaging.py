"""Exponential moving average of the parameters.

Buffers are left alone: they are constants here, and deep copies of MACE models carry extra ones that trip Lightning's callback.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class ParameterAverage:
    """θ̄ ← θ̄ + (1 - d_t)(θ - θ̄) after every update, with d_t = min(d, (1 + t) / (10 + t)) at update t.

    Args:
        module: Its trainable parameters are averaged.
        decay: d; without one the average is the parameters themselves.
    """

    def __init__(self, module: nn.Module, decay: float | None) -> None:
        self.decay = decay
        self.updates = 0
        self.parameters: list[Tensor] = [p for p in module.parameters() if p.requires_grad]
        self.average = [p.detach().clone() for p in self.parameters] if decay is not None else []

    @torch.no_grad()
    def update(self) -> None:
        """Take the parameters' present values into the average."""
        if self.decay is None:
            return
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self.average, self.parameters, 1 - decay)
        self.updates += 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The module with averaged parameters; the trained ones come back afterwards."""
        if self.decay is None:
            yield
            return
        with torch.no_grad():
            trained = [p.clone() for p in self.parameters]
            torch._foreach_copy_(self.parameters, self.average)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self.parameters, trained)

    def state_dict(self) -> dict[str, Any]:
        """All that the average consists of."""
        return {"updates": self.updates, "average": self.average}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.updates = state["updates"]
        if self.decay is not None:
            torch._foreach_copy_(self.average, state["average"])
