"""What takes the place of an MLP: a KAN, or a control, of given widths in a wrapper with the replaced module's call signature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

from torch import Tensor, nn

from kanmlip.kan import KAN
from kanmlip.placement.dense import DenseHead

# What goes into the wrappers: maps [M, in] to [M, out], knows its ``widths`` and starts by ``imitate``.
Network = KAN | DenseHead


class Head(Protocol):
    """A module that stands where an MLP stood and starts as the function that MLP is."""

    def imitate(self, x: Tensor, y: Tensor) -> None:
        """Freeze the input scale measured on ``x`` [M, ...] and fit the weights to the replaced module's outputs ``y`` [M, out]."""


@dataclass(frozen=True)
class Swap:
    """How one module takes a KAN, or a control in its place.

    Attributes:
        widths: Widths at equal width, input first.
        wrap: Puts a network of these ends into a module with the call signature of the replaced one.
    """

    widths: tuple[int, ...]
    wrap: Callable[[Network], nn.Module]


class ScalarKAN(nn.Module):
    """A KAN in the place of nequip's ``ScalarMLPFunction``: [M, in] → [M, out], with the attribute ``dims`` its readers expect."""

    def __init__(self, kan: Network) -> None:
        super().__init__()
        self.kan = kan
        self.dims = list(kan.widths)
        self.is_nonlinear = True

    def forward(self, x: Tensor) -> Tensor:
        """Apply the KAN, or the control, to scalars [M, in]."""
        return cast("Tensor", self.kan(x))

    def imitate(self, x: Tensor, y: Tensor) -> None:
        """See :class:`Head`."""
        self.kan.imitate(x, y)


def swap_scalar_mlp(module: nn.Module) -> Swap:
    """A KAN with the widths (``dims``) of a nequip ``ScalarMLPFunction``."""
    return Swap(tuple(int(width) for width in cast("list[int]", module.dims)), ScalarKAN)
