"""What a layer multiplies with its weights: basis functions, less their values at zero, and the SiLU base branch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from kanmlip.kan.basis import Basis


class Expansion(nn.Module):
    """The functions φ_1 … φ_K of a basis and, as one more, SiLU.

    Args:
        basis: Basis functions.
        base: Add SiLU(x) as the last function.
        zero_preserving: Use φ_k(x) − φ_k(0), so that every function is exactly zero at x = 0.

    Attributes:
        columns: Number of functions, K or K + 1.
    """

    offset: Tensor

    def __init__(self, basis: Basis, base: bool, zero_preserving: bool) -> None:
        super().__init__()
        self.basis = basis
        self.base = base
        self.zero_preserving = zero_preserving
        self.columns = basis.num_basis + int(base)
        self.register_buffer("offset", torch.empty(0), persistent=False)
        self._set_offset()

    def evaluate(self, x: Tensor, derivative: int = 0) -> Tensor:
        """The definition, in differentiable PyTorch: [...] → [..., columns]."""
        functions = self.basis.evaluate(x, derivative)
        if self.zero_preserving and derivative == 0:
            functions = functions - self.basis.evaluate(torch.zeros_like(x), 0)
        if not self.base:
            return functions
        return torch.cat([functions, _silu(x, derivative).unsqueeze(-1)], dim=-1)

    def buffer(self, x: Tensor, rows: int) -> Tensor:
        """Memory for ``write`` for ``rows`` rows like those of x [N, in]: [rows, C, in]."""
        pad = self.basis.pad
        return x.new_empty(rows, pad + max(self.columns, self.basis.num_basis + pad), x.shape[1])

    def write(self, x: Tensor, orders: Sequence[int], buffers: Sequence[Tensor]) -> list[Tensor]:
        """Derivatives of the given orders without a graph, as views [n, columns, in] of the buffers' rows.

        Args:
            x: Points [n, in].
            orders: Increasing orders of differentiation.
            buffers: One from ``buffer`` for each order, with at least n rows.
        """
        pad, num_basis, n = self.basis.pad, self.basis.num_basis, x.shape[0]
        outs = [buffer[:n] for buffer in buffers]
        self.basis.write(x, orders, outs)
        if self.zero_preserving and orders[0] == 0:
            outs[0][:, pad : pad + num_basis].sub_(self.offset)
        if self.base:
            _write_silu(x, orders, [out[:, pad + num_basis] for out in outs])
        return [out[:, pad : pad + self.columns] for out in outs]

    def _set_offset(self) -> None:
        if not self.zero_preserving:
            return
        # By write itself and on more than one vector register of zeros: f(0) = 0 to the last bit needs the same arithmetic.
        like = self.offset
        with torch.no_grad():
            out = like.new_empty(1, self.basis.num_basis + 2 * self.basis.pad, 64)
            self.basis.write(like.new_zeros(1, 64), (0,), (out,))
            offset = out[0, self.basis.pad : self.basis.pad + self.basis.num_basis, :1].clone()
        self.register_buffer("offset", offset, persistent=False)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Expansion:
        cast("Callable[..., nn.Module]", super()._apply)(fn, recurse)
        self._set_offset()
        return self


def _silu(x: Tensor, derivative: int) -> Tensor:
    """Derivative of order 0 to 3 of x σ(x), from σ' = σ(1 − σ)."""
    if derivative == 0:
        return nn.functional.silu(x)
    s = torch.sigmoid(x)
    if derivative == 1:
        return s * (1 + x * (1 - s))
    slope = s * (1 - s)
    if derivative == 2:
        return slope * (2 + x * (1 - 2 * s))
    return slope * (3 * (1 - 2 * s) + x * (1 - 6 * slope))


def _write_silu(x: Tensor, orders: Sequence[int], outs: Sequence[Tensor]) -> None:
    """``_silu`` into given memory, without a graph and in few passes."""
    one = x.new_ones(()).expand_as(x)
    for order, out in zip(orders, outs, strict=True):
        if order == 0:
            torch.ops.aten.silu.out(x, out=out)
        elif order == 1:
            out.copy_(torch.ops.aten.silu_backward(one, x))
        else:
            out.copy_(_silu(x, order))
