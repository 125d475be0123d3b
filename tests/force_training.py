"""A force-training step by two backends of one KAN."""

from __future__ import annotations

import torch
from torch import Tensor

from kanmlip.kan import KAN


def assert_trains_as_the_reference(kan: KAN, backend: str, start: Tensor) -> None:
    """Slopes at ``start`` [N, in] and the gradients of a loss on them are those of the definition; float64."""
    results = []
    for name in (backend, "reference"):
        kan.set_backend(name)
        x = start.clone().requires_grad_()
        (slope,) = torch.autograd.grad(kan(x).sum(), x, create_graph=True)
        results.append([slope, *torch.autograd.grad(slope.square().sum(), [x, *kan.parameters()])])
    for found, right in zip(*results, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-10, atol=1e-12 * float(right.detach().abs().max()))
