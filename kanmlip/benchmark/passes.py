"""The three passes that a layer is timed in: forward, forward + input gradient, and the step of training on forces."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

PASSES = {
    "forward": "forward",
    "gradient": "forward + input gradient",
    "training": "force-training step",
}


def make_pass(name: str, network: nn.Module, x: Tensor, through_input: bool = True) -> Callable[[], None]:
    """A call that runs one pass.

    * ``forward``: y(x) without a graph.
    * ``gradient``: y(x) and ∂Σy/∂x, the parameters requiring gradients as they do in a model that evaluates forces.
    * ``training``: E = y, F = ∂ΣE/∂x with its graph, loss = mean(E²) + mean(F²), and the loss's gradient by every parameter.

    Args:
        name: A key of ``PASSES``.
        network: [N, in] → [N, out].
        x: Inputs [N, in], float32 or float64.
        through_input: In ``training`` also by x, as for every layer behind a model's first trainable one.

    Raises:
        ValueError: If there is no such pass.
    """
    if name not in PASSES:
        raise ValueError(f"pass={name} is not known; choose from: {', '.join(PASSES)}")
    x = x.detach().requires_grad_(name != "forward")
    wanted = [p for p in network.parameters() if p.requires_grad] + [x] * through_input

    def forward() -> None:
        with torch.no_grad():
            network(x)

    def gradient() -> None:
        torch.autograd.grad(network(x).sum(), x)

    def training() -> None:
        energy = network(x)
        (force,) = torch.autograd.grad(energy.sum(), x, create_graph=True)
        loss = energy.square().mean() + force.square().mean()
        torch.autograd.grad(loss, wanted, allow_unused=True)

    return {"forward": forward, "gradient": gradient, "training": training}[name]


def make_input(rows: int, width: int, dtype: torch.dtype, device: str) -> Tensor:
    """The same standard normal numbers [rows, width] on every call and machine."""
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(device=device, dtype=dtype)
