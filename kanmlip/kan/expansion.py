"""What a layer multiplies with its weights: basis functions, less their values at zero, and the SiLU base branch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from kanmlip.kan.basis import TOGETHER, Basis
from kanmlip.kan.kernel_plan import describe
from kanmlip.kan.spec import BACKENDS, read_settings, write_spec

# Outputs up to which compilers do better with a sum for each of them than with a product of stored functions and weights.
FEW_OUTPUTS = 8
# Inputs below which a vector of a processor's registers is not full.
FEW_INPUTS = 16
# Functions times outputs up to which sums are written out; compilers take half a minute to a minute for as many.
_WRITTEN_OUT = 256
# Points at zero whose functions are reduced to those of one: less than this compilers would work out again for every input.
_ZEROS = 16


class Expansion(nn.Module):
    """The functions φ_1 … φ_K of a basis and, as one more, SiLU.

    Args:
        basis: Basis functions.
        base: Add SiLU(x) as the last function.
        zero_preserving: Use φ_k(x) − φ_k(0), so that every function is exactly zero at x = 0.

    Attributes:
        columns: Number of functions, K or K + 1.
        specs: The functions that kernels evaluate, as a text for each backend; see ``read_spec``.
        functions: The same as the compiled kernels read it for themselves; none if they have none for the basis.
    """

    offset: Tensor
    offset_together: Tensor

    def __init__(self, basis: Basis, base: bool, zero_preserving: bool) -> None:
        super().__init__()
        self.basis = basis
        self.base = base
        self.zero_preserving = zero_preserving
        self.columns = basis.num_basis + int(base)
        self.register_buffer("offset", torch.empty(0), persistent=False)
        self.register_buffer("offset_together", torch.empty(0), persistent=False)
        self._set_offset()
        self.functions = describe(basis.kernel(), base, zero_preserving)
        self.specs = {backend: write_spec(basis.kernel(), base, zero_preserving, backend) for backend in BACKENDS}

    def evaluate(self, x: Tensor, derivative: int = 0) -> Tensor:
        """The definition, in differentiable PyTorch: [...] → [..., columns]."""
        functions = self.basis.evaluate(x, derivative)
        if self.zero_preserving and derivative == 0:
            functions = functions - self.basis.evaluate(torch.zeros_like(x), 0)
        return torch.cat([functions, _silu(x, derivative).unsqueeze(-1)], dim=-1) if self.base else functions

    def combine(self, x: Tensor, weight: Tensor) -> Tensor:
        """Σ_ki φ_k(x_i) W_oki in differentiable PyTorch, by the definition: x [..., in], weight [out, columns, in] → [..., out]."""
        basis = self.basis.kernel()
        functions = basis.evaluate(x)
        if self.zero_preserving:
            functions = functions - basis.evaluate(x.new_zeros([1]))
        return self._product(functions.transpose(-1, -2), x, self.kernel_weight(weight))

    def combine_compiled(self, x: Tensor, weight: Tensor, inputs: int, outputs: int) -> Tensor:
        """``combine`` in the form that PyTorch's compiler does best with: x [N, in] → [N, out].

        Innermost in what it stores is what there are many of: rows, where inputs are few. Of few outputs each is a sum of its own, written
        out function by function, which it works out in one pass instead of storing functions; its gradient too.

        Args:
            x: Inputs [N, in].
            weight: W [out, columns, in].
            inputs: ``in``, which a recording of what is done cannot ask ``x`` for.
            outputs: ``out``.
        """
        basis, weight = self.basis.kernel(), self.kernel_weight(weight)
        if inputs < FEW_INPUTS:
            functions, weights = torch.cat(self._each(x.t())), weight.flatten(1)
            # As what comes next reads it: the next layer few values row after row, a linear map all values of a row.
            return (weights @ functions).t() if outputs < FEW_INPUTS else functions.t() @ weights.t()
        if outputs > FEW_OUTPUTS or basis.num_basis * outputs > _WRITTEN_OUT or not basis.one_formula:
            functions = basis.rows(x)
            if self.zero_preserving:
                functions = functions - basis.rows(x.new_zeros([_ZEROS])).amax(-1, keepdim=True)
            return self._product(functions, x, weight)
        terms = self._each(x)
        sums = [functools.reduce(torch.add, [term * weight[o, k] for k, term in enumerate(terms)]).sum(-1) for o in range(outputs)]
        # By the identity, which a compiler does not look through: else the gradient of every sum would be worked out again for each input.
        # From the left, so that few values lie as the next layer reads them, row after row.
        return (torch.eye(outputs, dtype=weight.dtype, device=weight.device) @ torch.stack(sums)).t()

    def _each(self, x: Tensor) -> list[Tensor]:
        """The kernels' functions and SiLU one by one, each of the shape of x."""
        basis = self.basis.kernel()
        terms = basis.each(x)
        if self.zero_preserving:
            at_zero = torch.stack([value.amax(-1) for value in basis.each(x.new_zeros([_ZEROS]))])
            terms = [term - at_zero[k] for k, term in enumerate(terms)]
        return [*terms, _silu(x, 0)] if self.base else terms

    def _product(self, functions: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """Functions [..., K, in] and SiLU times their weights; not side by side, since compilers do several inputs of one at a time."""
        size = self.basis.kernel().num_basis
        y = nn.functional.linear(functions.flatten(-2), weight[:, :size].flatten(1))
        return y + nn.functional.linear(_silu(x, 0), weight[:, size]) if self.base else y

    def kernel_weight(self, weight: Tensor) -> Tensor:
        """Weights [out, columns, in] for these functions → weights [out, kernel columns, in] for those that kernels evaluate."""
        mixing = self.basis.mixing()
        if mixing is None:
            return weight
        size = self.basis.num_basis
        # In float64: truncated powers cancel, the combinations that they make do not.
        mixed = torch.einsum("mk,oki->omi", mixing, weight[:, :size].double()).to(weight.dtype)
        return torch.cat([mixed, weight[:, size:]], dim=1)

    def basis_weight(self, weight: Tensor) -> Tensor:
        """The inverse of ``kernel_weight``; the nearest there is if the kernels' functions can do more."""
        mixing = self.basis.mixing()
        if mixing is None:
            return weight
        size = mixing.shape[0]
        columns = weight[:, :size].double().transpose(0, 1).flatten(1)
        own = torch.linalg.lstsq(mixing, columns).solution.unflatten(1, (weight.shape[0], -1)).transpose(0, 1)
        return torch.cat([own.to(weight.dtype), weight[:, size:]], dim=1)

    def kernel_expansion(self) -> Expansion:
        """The expansion in the functions that kernels evaluate; itself unless the basis mixes them."""
        if self.basis.mixing() is None:
            return self
        return Expansion(self.basis.kernel(), self.base, self.zero_preserving).to(self.offset)

    def buffer_shape(self, x: Tensor, rows: int, orders: Sequence[int] = (0,)) -> tuple[int, int, int]:
        """Shape [rows, C, in] of the memory that ``write`` needs for ``rows`` rows like those of x [N, in]."""
        pad = self.basis.padding(orders)
        return rows, pad + max(self.columns, self.basis.num_basis + pad), x.shape[1]

    def write(self, x: Tensor, orders: Sequence[int], buffers: Sequence[Tensor], shape: Tensor | None = None) -> list[Tensor]:
        """Derivatives of the given orders without a graph, as views [n, columns, in] of the buffers' rows.

        Args:
            x: Points [n, in].
            orders: Increasing orders of differentiation.
            buffers: One of ``buffer_shape`` for each order, with at least n rows.
            shape: Centres and inverse widths [2, K], for bases that have a ``shape``.
        """
        pad, num_basis, n = self.basis.padding(orders), self.basis.num_basis, x.shape[0]
        outs = [buffer[:n] for buffer in buffers]
        self.basis.write(x, orders, outs, shape)
        if self.zero_preserving and orders[0] == 0:
            outs[0][:, pad : pad + num_basis].sub_(self._offset(orders, shape))
        if self.base:
            _write_silu(x, orders, [out[:, pad + num_basis] for out in outs])
        return [out[:, pad : pad + self.columns] for out in outs]

    def _set_offset(self) -> None:
        if not self.zero_preserving:
            return
        with torch.no_grad():
            self.register_buffer("offset", self._at_zero((0,), None), persistent=False)
            self.register_buffer("offset_together", self._at_zero(TOGETHER, None), persistent=False)

    def _offset(self, orders: Sequence[int], shape: Tensor | None) -> Tensor:
        together = tuple(orders) == TOGETHER
        if shape is not None:
            return self._at_zero(TOGETHER if together else (0,), shape)
        return self.offset_together if together else self.offset

    def _at_zero(self, orders: Sequence[int], shape: Tensor | None) -> Tensor:
        """φ_k(0) [K, 1] as ``Basis.write`` of these orders has it."""
        # By write itself and on more than one vector register of zeros: f(0) = 0 to the last bit needs the same arithmetic.
        pad, like = self.basis.padding(orders), self.offset
        outs = [like.new_empty(1, self.basis.num_basis + 2 * pad, 64) for _ in orders]
        self.basis.write(like.new_zeros(1, 64), orders, outs, shape)
        return outs[0][0, pad : pad + self.basis.num_basis, :1].clone()

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Expansion:
        cast("Callable[..., nn.Module]", super()._apply)(fn, recurse)
        self._set_offset()
        return self


@functools.lru_cache(maxsize=1024)
def read_spec(spec: str, dtype: torch.dtype, device: torch.device) -> Expansion:
    """The expansion of a text, with constants of a dtype on a device; the same object for the same text, never to be changed."""
    settings = read_settings(spec)
    with torch.no_grad():
        basis = settings["basis"](**settings["arguments"])
        return Expansion(basis, settings["base"], settings["zero_preserving"]).to(device=device, dtype=dtype).requires_grad_(False)


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
    if tuple(orders) == TOGETHER:
        s = torch.sigmoid(x)
        slope = torch.addcmul(s, s, s, value=-1)
        torch.mul(x, s, out=outs[0])
        torch.addcmul(s, x, slope, out=outs[1])
        torch.mul(slope, torch.addcmul(x, x, s, value=-2).add_(2), out=outs[2])
        return
    one = x.new_ones(()).expand_as(x)
    for order, out in zip(orders, outs, strict=True):
        if order == 0:
            torch.ops.aten.silu.out(x, out=out)
        elif order == 1:
            torch.ops.aten.silu_backward.grad_input(one, x, grad_input=out)
        else:
            out.copy_(_silu(x, order))
