"""What a set of basis functions φ_k of one variable must offer: values and closed-form derivatives up to the third."""

from __future__ import annotations

import functools
import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from kanmlip.kan.family import Family

MAX_DERIVATIVE = 3
# The orders that small layers ask ``Basis.write`` for at once; a basis may have a shorter way for them.
TOGETHER = (0, 1, 2)


class Basis(nn.Module, ABC):
    """Basis functions φ_1 … φ_K of one variable, finite on the whole line and as smooth there as ``smoothness`` says.

    A new basis implements ``evaluate`` in plain PyTorch; ``write`` may be overridden with something faster. Constants are
    buffers made by ``constants``, so that they follow the module's device and are exact in its dtype.

    Attributes:
        num_basis: Number of functions K.
        pad: Columns on either side of the K that ``write`` uses as scratch.
        smoothness: Number of continuous derivatives, infinite unless a basis says otherwise. Molecular dynamics needs 2: with 1
            force constants jump, with 0 forces.
        one_formula: Whether all functions have one formula, which compilers work out where it is needed; not if a function is made
            of those before it.
    """

    num_basis: int
    pad: int = 0
    smoothness: float = math.inf
    one_formula: bool = True

    def __init__(self, num_basis: int) -> None:
        super().__init__()
        self.num_basis = num_basis

    @abstractmethod
    def constants(self) -> dict[str, Tensor]:
        """Fixed tensors in float64 by buffer name, computed from the constructor's arguments alone."""

    @abstractmethod
    def evaluate(self, x: Tensor, derivative: int = 0) -> Tensor:
        """φ_k⁽ᵈ⁾(x) in differentiable PyTorch: [...] → [..., K].

        Args:
            x: Points of any shape.
            derivative: Order d, 0 to 3.
        """

    def rows(self, x: Tensor) -> Tensor:
        """``evaluate`` with the points innermost, [..., in] → [..., K, in]: what a compiler stores of it, it stores in this order."""
        return self.evaluate(x).transpose(-1, -2)

    def each(self, x: Tensor) -> list[Tensor]:
        """``evaluate`` function by function, K tensors of the shape of x, for compilers that work out functions where they are used.

        They do so wherever a function is used, in the backward pass as well: what counts is that formulas and their gradients are short.
        """
        functions = self.rows(x)
        return [functions.select(-2, k) for k in range(self.num_basis)]

    def forward(self, x: Tensor) -> Tensor:
        """Values φ_k(x): [...] → [..., K]."""
        return self.evaluate(x, 0)

    def write(self, x: Tensor, orders: Sequence[int], outs: Sequence[Tensor], shape: Tensor | None = None) -> None:
        """Fill ``outs`` with derivatives of the given orders, in place and without a graph.

        Args:
            x: Points [n, in].
            orders: Increasing orders of differentiation.
            outs: One contiguous tensor [n, C, in] an order with C ≥ K + 2 p, p the ``padding`` of the orders; function k goes to
                column p + k. The other columns may be left with anything in them.
            shape: Centres and inverse widths [2, K] in place of the basis's own, for bases that have a ``shape``.
        """
        for order, out in zip(orders, outs, strict=True):
            out[:, self.pad : self.pad + self.num_basis].copy_(self.evaluate(x, order).transpose(1, 2))

    def padding(self, orders: Sequence[int]) -> int:
        """Columns on either side of the K that ``write`` of these orders uses as scratch."""
        return self.pad

    def family(self) -> Family | None:
        """The functions in the terms of compiled kernels; None for a basis that only ``evaluate`` and ``write`` know."""
        return None

    def shape(self) -> Tensor | None:
        """Learnable centres c_k and inverse widths s_k [2, K] of functions φ_k(x) = φ((x − c_k) s_k); None if nothing is learnable."""
        return None

    def kernel(self) -> Basis:
        """The basis that kernels evaluate; not itself if the functions are fixed combinations (``mixing``) of others."""
        return self

    def mixing(self) -> Tensor | None:
        """M [kernel functions, K], float64, with φ_k = Σ_m M_mk κ_m over the functions of ``kernel``; None for the identity."""
        return None

    def arguments(self) -> dict[str, Any]:
        """What the constructor has to be called with for the same functions: each of its arguments is an attribute."""
        return {name: getattr(self, name) for name in _parameters(type(self))}

    def initial_profile(self) -> Tensor:
        """Relative standard deviation of the functions' initial weights [K], float64."""
        return torch.ones(self.num_basis, dtype=torch.float64)

    def register_constants(self) -> None:
        """Make the buffers; called once by each basis when its arguments are set. They are not part of ``state_dict``."""
        for name, value in self.constants().items():
            self.register_buffer(name, value.to(torch.get_default_dtype()), persistent=False)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Basis:
        # Without this, a module made in float32 keeps a grid rounded to float32 after .double().
        cast("Callable[..., nn.Module]", super()._apply)(fn, recurse)
        for name, value in self.constants().items():
            buffer = self.get_buffer(name)
            self.register_buffer(name, value.to(device=buffer.device, dtype=buffer.dtype), persistent=False)
        return self


@functools.cache
def _parameters(basis: type[Basis]) -> tuple[str, ...]:
    return tuple(inspect.signature(basis).parameters)


def both_ways(centres: Tensor) -> dict[str, Tensor]:
    """Constants ``centres`` [K] and ``centre_column`` [K, 1].

    PyTorch's compiler writes a constant of one dimension and up to eight numbers into its code, as a search by comparisons for every
    element; one of two dimensions it reads from memory.
    """
    return {"centres": centres, "centre_column": centres.unsqueeze(-1)}


def check_derivative(derivative: int) -> None:
    """Refuse orders that have no closed form here.

    Raises:
        NotImplementedError: If ``derivative`` is not 0, 1, 2 or 3.
    """
    if not 0 <= derivative <= MAX_DERIVATIVE:
        raise NotImplementedError(
            f"derivative={derivative}: basis functions have closed forms for 0 to {MAX_DERIVATIVE} only, enough to train on forces and for "
            "Hessians; for more, set KANLayer.backend='reference', which PyTorch differentiates itself"
        )


def check_grid(grid_min: float, grid_max: float) -> None:
    """Refuse an empty grid.

    Raises:
        ValueError: If ``grid_max`` is not above ``grid_min``.
    """
    if not grid_min < grid_max:
        raise ValueError(f"grid_min={grid_min} must be less than grid_max={grid_max}; inputs are normalised, -3 and 3 suit most")


def check_count(name: str, value: int, least: int) -> None:
    """Refuse too few functions.

    Raises:
        ValueError: If ``value`` is below ``least``.
    """
    if value < least:
        raise ValueError(f"{name}={value} is too small; give {least} or more")
